# SPDX-License-Identifier: GPL-3.0-or-later
"""The data path of a simulated host, in place of what `brine` would have in a kernel.

`brine` plans and describes as ever (plan.py, reconcile.py, verify.py); what it would read from
maps and devices is read from the host's `memory`, and an echo request is answered if both hosts
have each other in their maps and their daemons run.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brine import dataplane, guard, identity, keys, loader, plan, reconcile, status, survey, verify
from brine import roster as rosters
from brine.config import DEVICE, INSIDE, OVERHEAD, Config, Paths
from brine.errors import BrineError
from brine.plan import Device, Tables
from brine.reconcile import State
from brine.records import RouteValues
from brine.sources import Sources
from tests.fleet.root import SimulatedHost

_VALUES = RouteValues(own=0xFFFFFFFE, nobody=0xFFFFFFFF, outside=1 << 30)  # enum route_value
_UNDERLAY_MTU, _UNDERLAY_INDEX = 1500, 2
_MODE = "native"
_RTT = 0.0004  # s


NOTHING = State(Tables(), Device(), Sources(), frozenset())


class Place:
    """A directory by its descriptor, which leads out of the root that a process has entered."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._descriptor)

    def exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes | None:
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        new = f"{name}.new"
        with os.fdopen(self._open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(data)
        os.rename(new, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def load(self, name: str, default: Any) -> Any:
        data = self.read(name)
        return default if data is None else pickle.loads(data)

    def store(self, name: str, value: Any) -> None:
        self.write(name, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


class Kernel:
    """Of one host; to be made before its root is entered."""

    def __init__(self, host: SimulatedHost) -> None:
        # Descriptors reach out of the root that this process is about to enter.
        self.memory = Place(host.memory)
        self._others = Place(host.fleet / "hosts")
        self._name = host.name

    def cut_off(self) -> None:
        """The answer to what is asked now is the last one that the controller gets."""
        self._others.write(f"{self._name}/cut_off", b"")

    def install(self) -> None:
        """Have `brine`, in this process, find this kernel."""
        dataplane.apply = self.apply_dataplane
        reconcile.apply = self.apply_peers
        status.collect = self.status
        verify.echo = self.echo
        verify.logs = lambda: "a journal of a simulated host\n"

    def apply_dataplane(self, config: Config, check: bool) -> dict[str, Any]:
        """dataplane.apply"""
        before: list[str] = self.memory.load("dataplane", [])
        mtu = config.mtu or _UNDERLAY_MTU - OVERHEAD
        after = [
            f"object sha256 {loader.digest(config.object)}",
            f"maps for {config.max_peers} peers",
            f"open on {config.interface}, {_MODE}",
            f"{DEVICE} up, MTU {mtu}",
            f"seal on {INSIDE}",
            *survey._describe_settings(
                config.port,
                _UNDERLAY_INDEX,
                copy_dscp=config.copy_dscp,
                kernel_derivation=config.kernel_derivation,
                roaming=config.roaming,
            ),
        ]
        if not check:
            self.memory.store("dataplane", after)
        there = bool(before) or not check
        return {
            "changed": before != after,
            "xdp_mode": _MODE if there else None,
            "mtu": mtu if there else None,
            "diff": {"before": _text(before), "after": _text(after)},
        }

    def apply_peers(self, config: Config, roster_path: Path, check: bool) -> dict[str, Any]:
        """reconcile.apply"""
        roster = rosters.load(roster_path)
        own = reconcile._own(config.paths, roster, check)
        if not self.memory.load("dataplane", []):
            if check:
                return reconcile.predict(config.paths, roster_path)
            raise BrineError("the data path is not loaded", "run `brine dataplane apply`")
        current: State = self.memory.load("state", NOTHING)
        tables = plan.plan_tables(roster, own, current.tables, config.max_peers, _VALUES)
        device, notes = plan.plan_device(roster, own) if own else (current.device, [])
        guarded = frozenset(guard.wanted(roster, own.public_key if own else None))
        wanted = State(tables, device, current.sources, guarded)
        if not check:
            self.memory.store("state", wanted)
            self.memory.store("identities", {one.identity for one in tables.peers.values()})
        return reconcile._answer(roster, own, _VALUES, current, wanted, notes)

    def status(self, config: Config) -> dict[str, Any]:
        """status.collect, as far as `brine verify` and `brine gate` read it."""
        there = bool(self.memory.load("dataplane", []))
        state: State = self.memory.load("state", NOTHING)
        members = rosters.load(config.paths.roster)
        entries = {key: entry for entry in members.entries for key in entry.public_keys}
        names = {key: entry.name for key, entry in entries.items()}
        received = self.memory.load("received", {})
        return {
            "key_id": keys.key_id(identity.load(config.paths).public),
            "former": None,
            "drops": {},
            "xdp_mode": _MODE if there else None,
            "mtu": config.mtu or _UNDERLAY_MTU - OVERHEAD if there else None,
            "port": config.port,
            "sources": ["192.0.2.1"] if there else [],
            "daemon": {"running": self.daemon_runs()},
            "peers": [
                {
                    "name": plan.show_name(one.identity, names),
                    "endpoint": str(one.endpoint) if one.endpoint else None,
                    "endpoints": [
                        str(endpoint)
                        for endpoint in (
                            entries[one.identity].endpoints if one.identity in entries else ()
                        )
                    ],
                    "association": None,
                    "last_received_seconds": None,
                    "received_packets": received.get(plan.show_name(one.identity, names), 0),
                }
                for one in state.tables.peers.values()
            ],
        }

    def daemon_runs(self) -> bool:
        return self.memory.exists("daemon/cmdline")

    def echo(self, targets: Sequence[verify.Target], seconds: float) -> None:
        """verify.echo, which waits for nobody."""
        del seconds
        own = identity.load(Paths()).public
        received = self.memory.load("received", {})
        for target in targets:
            theirs = self._others.load(f"{target.peer}/memory/identities", set())
            runs = self._others.exists(f"{target.peer}/memory/daemon/cmdline")
            off = self._others.exists(f"{target.peer}/off")
            if own in theirs and runs and not off and self.daemon_runs():
                target.rtt = _RTT
                received[target.peer] = received.get(target.peer, 0) + 1
        self.memory.store("received", received)


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
