# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered packets between every two hosts of a lab while something else happens."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.labs import BRINE, HOSTS, Lab

PATIENCE = 60  # s for the last packets, and for the receivers to say what came


@dataclass
class Count:
    """What the receivers say; filled when the probing ends."""

    runs: dict[tuple[str, str], dict[str, t.Any]] = field(default_factory=dict)  # from, to

    @property
    def sent(self) -> int:
        return sum(run["sent"] for run in self.runs.values())

    @property
    def lost(self) -> int:
        return sum(run["lost"] for run in self.runs.values())

    @property
    def duplicated(self) -> int:
        return sum(run["duplicated"] for run in self.runs.values())

    def __str__(self) -> str:
        gap = max(run["longest_gap_ms"] for run in self.runs.values())
        return (
            f"{self.sent} packets between {len(self.runs)} pairs, {self.lost} lost,"
            f" {self.duplicated} duplicated, longest gap {gap:.0f} ms"
        )


@contextlib.contextmanager
def probing(
    lab: Lab, hosts: Sequence[str] = HOSTS, interval_ms: float = 1, seconds: float = 3600
) -> Iterator[Count]:
    """Every one of `hosts` sends each other a packet every interval, from beginning to end."""
    count = Count()
    for host in hosts:
        others = len(hosts) - 1
        _start(lab, host, "receive", f"--seconds {seconds + PATIENCE} --runs {others}")
    for host in hosts:
        lab.run(host, "until ss -Huln sport = 4748 | grep -q .; do sleep 0.1; done")
    for host in hosts:
        targets = " ".join(lab.address(other) for other in hosts if other != host)
        _start(lab, host, "send", f"{targets} --interval {interval_ms} --seconds {seconds}")
    try:
        yield count
    finally:
        for host in hosts:
            lab.try_(host, "systemctl kill --signal=INT probe-send.service")
        told = {
            host: {verb: _end(lab, host, verb) for verb in ("send", "receive")} for host in hosts
        }
    names = {lab.address(host): host for host in hosts}
    for host in hosts:
        for run in told[host]["receive"]["runs"]:
            assert run["complete"], f"{host} was not told how many there were: {told[host]}"
            count.runs[names[run["source"]], host] = run
    assert len(count.runs) == len(hosts) * (len(hosts) - 1), told


def _start(lab: Lab, host: str, verb: str, arguments: str) -> None:
    output = f"/run/probe-{verb}.json"
    lab.run(
        host,
        f"systemctl reset-failed probe-{verb}.service 2>/dev/null; rm -f {output};"
        f" systemd-run --quiet --unit=probe-{verb} --property=StandardOutput=file:{output}"
        f" {BRINE} probe {verb} {arguments} --json",
    )


def _end(lab: Lab, host: str, verb: str) -> dict[str, t.Any]:
    deadline = time.monotonic() + PATIENCE
    while not (text := lab.run(host, f"cat /run/probe-{verb}.json")).strip():
        if time.monotonic() > deadline:
            lab.try_(host, f"systemctl stop probe-{verb}.service")
            said = lab.run(host, f"journalctl --no-pager --unit=probe-{verb} --lines=5")
            raise AssertionError(f"{host}: the probe ({verb}) did not end: {said}")
        time.sleep(0.2)
    found: dict[str, t.Any] = json.loads(text)
    return found
