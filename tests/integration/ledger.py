# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that counts packets between two ends of the mesh: brine's programs, and the
kernel's queues and sockets. What it counted while a packet was lost says where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from brine.maps import Maps
from tests.integration.hosts import Host
from tests.integration.namespaces import Switch

_NET = Path("/proc/thread-self/net")
_SECTIONS = ("Ip", "Udp")  # of /proc/net/snmp: discards, full socket buffers


class Ledger:
    """The counters of these hosts and of the switch between them, from now on."""

    def __init__(self, hosts: Iterable[Host], switch: Switch) -> None:
        self._hosts = tuple(hosts)
        self._switch = switch
        self._before = self._read()

    def __str__(self) -> str:
        """What has been counted since, a line each."""
        now = self._read()
        found = {name: count - self._before.get(name, 0) for name, count in now.items()}
        return "\n".join(f"{name} {count}" for name, count in sorted(found.items()) if count)

    def _read(self) -> dict[str, int]:
        counted = dict(_backlog())
        with self._switch.namespace.entered():
            counted.update((f"switch {name}", count) for name, count in _devices())
        for host in self._hosts:
            for name, count in (*_programs(host), *host.inside(lambda: [*_devices(), *_stack()])):
                counted[f"{host.name} {name}"] = count
        return counted


def _programs(host: Host) -> Iterator[tuple[str, int]]:
    with Maps.of(host.config) as maps:
        for reason, (packets, _octets) in maps.stats().items():
            yield f"brine: {reason}", packets


def _devices() -> Iterator[tuple[str, int]]:
    for line in (_NET / "dev").read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        fields = numbers.split()
        # bytes packets errs drop …, received and then sent
        for what, at in (("received", 1), ("not received", 3), ("sent", 9), ("not sent", 11)):
            yield f"{name.strip()}: {what}", int(fields[at])


def _stack() -> Iterator[tuple[str, int]]:
    lines = [line.split() for line in (_NET / "snmp").read_text().splitlines()]
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if (section := names[0].rstrip(":")) in _SECTIONS:
            for name, value in zip(names[1:], values[1:], strict=True):
                yield f"{section}: {name}", int(value)


def _backlog() -> Iterator[tuple[str, int]]:
    """Of the whole machine: a CPU's queue of received packets was full, or its time was up."""
    for line in Path("/proc/net/softnet_stat").read_text().splitlines():
        fields = [int(field, 16) for field in line.split()]
        yield f"cpu {fields[12]}: backlog full", fields[1]
        yield f"cpu {fields[12]}: time squeezed", fields[2]
