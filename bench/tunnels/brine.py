# SPDX-License-Identifier: GPL-3.0-or-later
"""brine as the roles set it up, each host with directories of its own.

Run as a program inside a host's namespace, it makes the data path there, or removes it as a
reboot would: python -m bench.tunnels.brine apply|remove ETC STATE RUN
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.rig import UNDERLAY, Host, Rig
from bench.tunnels.base import PORT, Tunnel, wait_for
from brine import config as configuration
from brine import dataplane, identity, keys, reconcile
from brine.config import Paths
from brine.libbpf import Map

SOURCE = Path(__file__).parents[2]
NETWORKS = ["198.18.0.0/15"]


class BrineHost:
    """brine on one host of a rig, its pins below `bpffs`."""

    def __init__(self, rig: Rig, host: Host, bpffs: Path, bpf_object: Path, max_peers: int) -> None:
        self.rig = rig
        self.host = host
        self.pins = bpffs / host.namespace
        base = rig.work / "run" / host.namespace
        self.paths = Paths(etc=base / "etc", state=base / "state", run=base / "run")
        self._daemon: subprocess.Popen[bytes] | None = None
        for path in (self.paths.etc, self.paths.state, self.paths.run):
            path.mkdir(parents=True)
        identity.ensure(self.paths, check=False)
        self.public = identity.load(self.paths).public
        settings = {
            "bpffs": str(self.pins),
            "copy_dscp": False,
            "interface": UNDERLAY,
            "kernel_derivation": True,
            "max_peers": max_peers,
            "mtu": None,
            "object": str(bpf_object),
            "port": PORT,
            "roaming": False,
            "xdp_mode": "native",
        }
        self.paths.config.write_text(json.dumps(settings))

    def entry(self) -> dict[str, Any]:
        """Its entry in the roster."""
        return entry(self.host.namespace, self.public, self.host.underlay, self.host.inner)

    def know(self, peers: list[dict[str, Any]]) -> None:
        """Write the roster of these."""
        self.paths.roster.write_text(
            json.dumps({"version": 1, "networks": NETWORKS, "peers": peers})
        )

    def apply(self) -> None:
        """What brine-dataplane.service does."""
        self._data_path("apply")

    def forget(self) -> None:
        """Lose the data path, as a reboot would."""
        self._data_path("remove")

    def _data_path(self, verb: str) -> None:
        command = ("env", f"PYTHONPATH={SOURCE}", sys.executable, "-m", __name__, verb)
        self.host.run(*command, *self._directories(), timeout=300)

    def _directories(self) -> list[str]:
        return [str(self.paths.etc), str(self.paths.state), str(self.paths.run)]

    def start(self) -> None:
        """Run brined; returns once its control socket is there."""
        options = zip(("--etc", "--state", "--run"), self._directories(), strict=True)
        self.paths.control_socket.unlink(missing_ok=True)
        self._daemon = self.rig.start(
            self.host,
            *("env", f"PYTHONPATH={SOURCE}", sys.executable, "-m", "brine.daemon.main"),
            *(f"{option}={value}" for option, value in options),
        )
        socket = self.paths.control_socket
        wait_for(socket.exists, f"brined made no {socket}", 120)

    def stop(self) -> None:
        """End brined; the data path stays."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(timeout=30)
            self._daemon = None

    @property
    def pid(self) -> int:
        """Of brined, which runs: `ip netns exec` and `env` become what they start."""
        assert self._daemon is not None
        return self._daemon.pid

    def map_memory(self) -> int:
        """Bytes that the kernel counts for the pinned maps."""
        total = 0
        for path in self.pins.rglob("*"):
            if not path.is_file():
                continue
            try:
                pinned = Map.pinned(str(path))
            except OSError:
                continue  # a program or a link
            with contextlib.closing(pinned):
                text = Path(f"/proc/self/fdinfo/{pinned.fd}").read_text(encoding="ascii")
            fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            total += int(fields.get("memlock", "0"))
        return total


def entry(name: str, public: bytes, underlay: str, inner: str) -> dict[str, Any]:
    """Of the roster."""
    return {
        "name": name,
        "public_key": keys.show_key(public),
        "endpoint": f"{underlay}:{PORT}",
        "addresses": [inner],
        "allowed_ips": [],
        "roaming": False,
    }


def build(directory: Path, source: str = "brine.bpf.c") -> Path:
    """The object, or one of the bench's own. `source` counts from bpf/."""
    make = ["make", "--silent", "-C", str(SOURCE / "bpf"), f"BUILD={directory}"]
    subprocess.run([*make, f"SOURCE={source}"], check=True, stdout=subprocess.DEVNULL)
    return directory / Path(source).with_suffix(".o").name


@contextlib.contextmanager
def bpffs(point: Path) -> Iterator[Path]:
    """A bpffs there; pins end with it."""
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


class Brine(Tunnel):
    name = "brine"
    device = "brine0"
    source = "brine.bpf.c"  #: of the object
    max_peers = 64
    others: tuple[dict[str, Any], ...] = ()  #: further peers, in both hosts' rosters

    def __init__(self, rig: Rig, root: Path) -> None:
        super().__init__(rig, root)
        self._resources = contextlib.ExitStack()
        self.sides: list[BrineHost] = []

    def start(self) -> None:
        bpf_object = build(self.rig.work / "object", self.source)
        point = self._resources.enter_context(bpffs(self.rig.work / "bpf"))
        self.sides = [
            BrineHost(self.rig, host, point, bpf_object, self.max_peers) for host in self.rig.hosts
        ]
        peers = [*(side.entry() for side in self.sides), *self.others]
        for side in self.sides:
            side.know(peers)
            side.apply()
            side.start()

    def stop(self) -> None:
        self._resources.close()

    def map_memory(self) -> int:
        return sum(side.map_memory() for side in self.sides)


def main() -> None:
    verb, etc, state, run = sys.argv[1:]
    paths = Paths(etc=Path(etc), state=Path(state), run=Path(run))
    config = configuration.load(paths)
    if verb == "remove":
        dataplane.remove(config, False)
        return
    dataplane.apply(config, False)
    reconcile.apply(config, paths.roster, False)


if __name__ == "__main__":
    main()
