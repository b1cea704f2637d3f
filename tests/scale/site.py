# SPDX-License-Identifier: GPL-3.0-or-later
"""`site.yml` on N simulated hosts (tests/fleet): what it costs the controller, first on virgin
hosts and then where nothing is to be done."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fleet.fleet import Cost, Fleet
from tests.labs import Played

#: Fills the caches for object and wheels, which are made once for all hosts.
_WARMING = 2
_HEAD = (
    "| hosts | run | wall, s | controller, CPU s | a host, CPU s | stand-ins, CPU s"
    " | main process, MiB | with its forks, MiB | requests a host | sent to a host, MiB | load |"
)


def measure(count: int) -> Iterator[tuple[str, Cost]]:
    """The first run and the second, as they end."""
    with tempfile.TemporaryDirectory() as directory, Fleet(Path(directory), count) as fleet:
        for run in ("first", "second"):
            played, cost = fleet.play()
            require(played, fleet.names, run)
            yield run, cost


def require(played: Played, names: list[str], run: str) -> None:
    """A run that did something else than it should is no measurement."""
    changed = played.changed()
    right = changed.keys() >= set(names) and all(
        (changed[name] > 0) == (run == "first") for name in names
    )
    if played.status or not right:
        kept = Path(tempfile.mkdtemp(), "log")
        kept.write_text(played.output)
        sys.exit(f"the {run} run on {len(names)} hosts went wrong: see {kept}")


def table(counts: list[int]) -> Iterator[str]:
    """Line after line."""
    for _ in measure(_WARMING):
        pass
    yield _HEAD
    yield "|" + "---|" * _HEAD.count(" | ") + "---|"
    for count in counts:
        for run, cost in measure(count):
            times = (cost.wall, cost.controller, cost.controller / count, cost.hosts)
            cells = [str(count), run, *(f"{time:.2f}" for time in times)]
            cells += [f"{size / 2**20:.0f}" for size in (cost.main, cost.forks)]
            cells += [f"{cost.requests / count:.1f}", f"{cost.sent / count / 2**20:.1f}"]
            yield f"| {' | '.join(cells)} | {cost.load:.1f} |"
