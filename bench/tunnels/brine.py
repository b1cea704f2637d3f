# SPDX-License-Identifier: GPL-3.0-or-later
"""brine as the roles set it up, each host with directories of its own.

Run as a program inside a host's namespace, it applies the data path there:
python -m bench.tunnels.brine ETC STATE RUN
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.rig import UNDERLAY, Host, Rig
from bench.tunnels.base import PORT, Tunnel, wait_for
from brine import config as configuration
from brine import dataplane, identity, keys, reconcile
from brine.config import Paths
from brine.libbpf import Map

SOURCE = Path(__file__).parents[2]


class Brine(Tunnel):
    name = "brine"
    device = "brine0"
    max_peers = 64

    def __init__(self, rig: Rig, root: Path) -> None:
        super().__init__(rig, root)
        self.bpffs = rig.work / "bpf"

    def paths(self, host: Host) -> Paths:
        base = self.rig.work / "run" / host.namespace
        return Paths(etc=base / "etc", state=base / "state", run=base / "run")

    def pins(self, host: Host) -> Path:
        return self.bpffs / host.namespace

    def start(self) -> None:
        bpf_object = self.build()
        self.bpffs.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "bpf", "bpf", str(self.bpffs)], check=True)
        publics = {}
        for host in self.rig.hosts:
            paths = self.paths(host)
            for path in (paths.etc, paths.state, paths.run):
                path.mkdir(parents=True)
            identity.ensure(paths, check=False)
            publics[host.namespace] = identity.load(paths).public
            settings = {
                "bpffs": str(self.pins(host)),
                "copy_dscp": False,
                "interface": UNDERLAY,
                "max_peers": self.max_peers,
                "mtu": None,
                "object": str(bpf_object),
                "port": PORT,
                "roaming": False,
                "xdp_mode": "native",
            }
            paths.config.write_text(json.dumps(settings))
        roster = json.dumps(
            {
                "version": 1,
                "networks": ["198.18.0.0/24"],
                "peers": [
                    {
                        "name": host.namespace,
                        "public_key": keys.show_key(publics[host.namespace]),
                        "endpoint": f"{host.underlay}:{PORT}",
                        "addresses": [host.inner],
                        "allowed_ips": [],
                        "roaming": False,
                    }
                    for host in self.rig.hosts
                ],
            }
        )
        for host in self.rig.hosts:
            paths = self.paths(host)
            paths.roster.write_text(roster)
            directories = [str(paths.etc), str(paths.state), str(paths.run)]
            host.run("env", f"PYTHONPATH={SOURCE}", sys.executable, "-m", __name__, *directories)
            options = zip(("--etc", "--state", "--run"), directories, strict=True)
            self.rig.start(
                host,
                *("env", f"PYTHONPATH={SOURCE}", sys.executable, "-m", "brine.daemon.main"),
                *(f"{option}={value}" for option, value in options),
            )
            socket = paths.control_socket
            wait_for(socket.exists, f"brined made no {socket}")

    def build(self) -> Path:
        directory = self.rig.work / "object"
        subprocess.run(
            ["make", "--silent", "-C", str(SOURCE / "bpf"), f"BUILD={directory}"], check=True
        )
        return directory / "brine.bpf.o"

    def stop(self) -> None:
        if self.bpffs.is_mount():  # the pins go with it
            subprocess.run(["umount", str(self.bpffs)], check=True)

    def map_memory(self) -> int:
        total = 0
        for host in self.rig.hosts:
            for path in self.pins(host).rglob("*"):
                if path.is_file():
                    try:
                        pinned = Map.pinned(str(path))
                    except OSError:
                        continue  # a program or a link
                    text = Path(f"/proc/self/fdinfo/{pinned.fd}").read_text(encoding="ascii")
                    pinned.close()
                    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
                    total += int(fields.get("memlock", "0"))
        return total


def main() -> None:
    etc, state, run = map(Path, sys.argv[1:4])
    paths = Paths(etc=etc, state=state, run=run)
    config = configuration.load(paths)
    dataplane.apply(config, False)
    reconcile.apply(config, paths.roster, False)


if __name__ == "__main__":
    main()
