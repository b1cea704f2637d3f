# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a mesh, each in its network namespace with directories of its own: brine's own code
sets them up, as the roles would have it do."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from brine import config as configuration
from brine import control_client, dataplane, identity, keys, probe, reconcile, status, verify
from brine.config import Config, Paths
from brine.roster import Address
from tests.integration.namespaces import Namespace, Switch

_T = TypeVar("_T")
PORT = 4747
READY_SECONDS = 20


class NotReady(Exception):
    """The daemon said why, and ended with `status`."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


class Host:
    """Number `number` of the mesh. Underlay addresses: 192.0.2.n and 2001:db8::n."""

    def __init__(
        self, switch: Switch, number: int, directory: Path, bpffs: Path, bpf_object: Path
    ) -> None:
        self.name = f"host{number}"
        self.port = f"port{number}"
        self.underlay4 = ipaddress.IPv4Interface(f"192.0.2.{number}/24")
        self.underlay6 = ipaddress.IPv6Interface(f"2001:db8::{number}/64")
        self.inner4 = ipaddress.IPv4Address(f"10.77.0.{number}")
        self.directory = directory
        self.paths = Paths(etc=directory / "etc", state=directory / "state", run=directory / "run")
        self.namespace = Namespace()
        self._switch = switch
        self.rekey_interval = 120  #: s, of the next start
        self._daemon: subprocess.Popen[bytes] | None = None
        self._bpffs = bpffs
        self._object = bpf_object
        for path in (self.paths.etc, self.paths.state, self.paths.run):
            path.mkdir(parents=True)
        identity.ensure(self.paths, check=False)
        self.public = identity.load(self.paths).public
        self.inner6 = keys.overlay_address(self.public)
        switch.connect(self.namespace, self.port, [self.underlay4, self.underlay6])

    # Set-up

    def entry(self, version: int) -> dict[str, Any]:
        """Its entry in the roster."""
        address = self.underlay4.ip if version == 4 else f"[{self.underlay6.ip}]"
        return {
            "name": self.name,
            "public_key": keys.show_key(self.public),
            "endpoint": f"{address}:{PORT}",
            "addresses": [str(self.inner4), str(self.inner6)],
            "allowed_ips": [],
            "roaming": False,
        }

    def configure(self, roster: str, psk: bytes | None = None) -> None:
        settings: dict[str, Any] = {
            "bpffs": str(self._bpffs / self.name),
            "copy_dscp": False,
            "interface": "eth0",
            "kernel_derivation": True,
            "max_peers": 16,
            "mtu": None,
            "object": str(self._object),
            "port": PORT,
            "roaming": False,
            "xdp_mode": "native",
        }
        self.paths.config.write_text(json.dumps(settings))
        self.paths.roster.write_text(roster)
        if psk is not None:
            self.set_mesh_secret(psk)

    def change(self, **settings: Any) -> None:
        """Other settings in config.json."""
        given = json.loads(self.paths.config.read_text())
        self.paths.config.write_text(json.dumps({**given, **settings}))

    def set_mesh_secret(self, psk: bytes) -> None:
        self.paths.mesh_secret.write_text(base64.b64encode(psk).decode() + "\n")
        self.paths.mesh_secret.chmod(0o600)

    @property
    def config(self) -> Config:
        return configuration.load(self.paths)

    def inside(self, call: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
        """`call` in the host's namespace."""
        with self.namespace.entered():
            return call(*arguments, **named)

    def apply(self) -> None:
        """What brine-dataplane.service does."""
        self.inside(dataplane.apply, self.config, False)
        self.apply_peers()

    def apply_peers(self) -> dict[str, Any]:
        return self.inside(reconcile.apply, self.config, self.paths.roster, False)

    def forget(self) -> None:
        """Lose the data path, as a reboot would."""
        self.inside(dataplane.remove, self.config, False)

    # The daemon

    def start(self) -> None:
        """Run brined; returns when it says that it is ready."""
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(path))
            notified.settimeout(READY_SECONDS)
            self.spawn(NOTIFY_SOCKET=str(path))
            said = b""
            while b"READY=1" not in said:
                said = notified.recv(4096)
                if b"ERRNO=" in said:
                    assert self._daemon is not None
                    raise NotReady(said.decode(), self._daemon.wait(10))

    def spawn(self, **environment: str) -> subprocess.Popen[bytes]:
        """Run brined without waiting for it."""
        log = (self.directory / "log").open("ab")
        with log, self.namespace.entered():
            self._daemon = subprocess.Popen(
                [
                    sys.executable, "-m", "brine.daemon.main", "--log-level=debug",
                    f"--rekey-interval={self.rekey_interval}",
                    f"--etc={self.paths.etc}", f"--state={self.paths.state}",
                    f"--run={self.paths.run}",
                ],
                stderr=log,
                env={**os.environ, **environment},
            )  # fmt: skip
        return self._daemon

    def stop(self) -> int:
        """End it as systemd would; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def ended(self) -> int:
        """Wait until it ends by itself; its exit status."""
        daemon, self._daemon = self._daemon, None
        assert daemon is not None
        return daemon.wait(20)

    def _end(self, number: signal.Signals) -> int:
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return 0
        daemon.send_signal(number)
        try:
            return daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            raise

    def signal(self, number: signal.Signals) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def exit_status(self, seconds: float) -> int:
        """Wait for the daemon to end by itself."""
        assert self._daemon is not None
        return self._daemon.wait(seconds)

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        return control_client.request(self.paths.control_socket, verb, **arguments)

    def close(self) -> None:
        self.kill()
        self.namespace.close()

    # What it sees

    def status(self) -> dict[str, Any]:
        return self.inside(status.collect, self.config)

    def status_of_daemon(self) -> dict[str, Any]:
        return status.daemon(self.config)

    def peer(self, other: Host) -> dict[str, Any]:
        (found,) = (peer for peer in self.status()["peers"] if peer["name"] == other.name)
        return dict(found)

    def association(self, other: Host) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.peer(other)["association"]
        return found

    def index(self, other: Host) -> int:
        """Of the association with it, which there must be: another exchange makes another."""
        found = self.association(other)
        assert found is not None, f"{self.name} has no association with {other.name}"
        return int(found["local_index"])

    def ping(self, address: Address, seconds: float = 0.9) -> float | None:
        """Round-trip time in s, or None. Below one second, one request is all that is sent."""
        target = verify.Target("", address)
        self.inside(verify.echo, [target], seconds)
        return target.rtt

    def reach(self, other: Host, seconds: float = 20) -> None:
        """Ping until there is an answer."""
        assert self.ping(other.inner4, seconds) is not None, f"{other.name} does not answer"

    def probe_send(self, other: Host, seconds: float) -> dict[str, Any]:
        return self.inside(probe.send, [other.inner4], seconds)

    def probe_receive(self, seconds: float, runs: int) -> dict[str, Any]:
        """In a thread of its own; packets before :meth:`receives` are lost."""
        return self.inside(probe.receive, [self.inner4], seconds, runs)

    def receives(self) -> bool:
        """its probe listens"""
        sockets = self.inside(Path("/proc/thread-self/net/udp").read_text).splitlines()[1:]
        return any(line.split()[1].endswith(f":{probe.PORT:04X}") for line in sockets)


def roster_of(hosts: list[Host], version: int = 4, roaming: Collection[int] = ()) -> str:
    """The roster of these hosts, which meet over IPv4 or IPv6; of those whose numbers are in
    `roaming` nobody knows where they are."""
    wandering = {f"host{number}": {"endpoint": None, "roaming": True} for number in roaming}
    return json.dumps(
        {
            "version": 1,
            "networks": ["10.77.0.0/16", "fd62:7269:6e65::/48"],
            "peers": [{**host.entry(version), **wandering.get(host.name, {})} for host in hosts],
        }
    )


def eventually(holds: Callable[[], bool], seconds: float = 20, step: float = 0.2) -> None:
    """Wait until it holds.

    :raises AssertionError: if it does not in time.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {holds.__doc__ or holds}"
        time.sleep(step)
