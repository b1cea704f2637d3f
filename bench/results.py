# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run measured, as JSON: the machine, then raw values round by round.

    machine     processor, CPUs, kernel, versions
    measured    of each section: when, commit, rounds, load average before the run began
    SECTION     a list of entries, each of one round; what is in them says who makes them
    failures    what could not be measured, and why

A section that is measured again replaces the one that was there; the file is written after every
entry, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    rounds: int
    seconds: float  #: of one measurement of throughput
    sizes: tuple[int, ...]  #: peers of a host, for scaling
    only: tuple[str, ...]  #: parts of tunnels' names; none: all


@dataclass(frozen=True)
class Spread:
    """Of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """:raises StatisticsError: if there are no values."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])

    def text(self, digits: int, factor: float = 1.0) -> str:
        """Median (least–most)."""
        low, middle, high = (
            f"{value * factor:.{digits}f}" for value in (self.least, self.median, self.most)
        )
        return middle if low == high else f"{middle} ({low}–{high})"


class Results:
    """The file, and what is in it."""

    def __init__(self, path: Path, settings: Settings, versions: dict[str, str]) -> None:
        self.path = path
        self.data: dict[str, Any] = {}
        if path.exists():
            self.data = json.loads(path.read_text(encoding="utf-8"))
        self.data["machine"] = machine(versions)
        self.data.setdefault("measured", {})
        self.data.setdefault("failures", [])
        self._run = {
            "commit": first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
            "load": os.getloadavg()[0],
            **asdict(settings),
        }

    def begin(self, section: str) -> None:
        """Forget what an earlier run found for this section."""
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
        self.data["measured"][section] = {"when": when, **self._run}
        self.data[section] = []
        self.data["failures"] = [one for one in self.data["failures"] if one["section"] != section]

    def add(self, section: str, entry: dict[str, Any]) -> None:
        self.data[section].append(entry)
        self._write()

    def fail(self, section: str, what: str, error: BaseException | str) -> None:
        """Something could not be measured; the rest is still worth it."""
        print(f"bench: {section}: {what} failed: {error}", file=sys.stderr, flush=True)
        self.data["failures"].append({"section": section, "what": what, "error": str(error)})
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")
        unfinished.rename(self.path)


def machine(versions: dict[str, str]) -> dict[str, Any]:
    """What the figures are of."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cpus": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "versions": {
            "clang": first_line("clang-19", "--version"),
            "iperf3": first_line("iperf3", "--version"),
            "python": platform.python_version(),
            "pynacl": version("pynacl"),
            "cryptography": version("cryptography"),
            **versions,
        },
    }


def first_line(*command: str) -> str:
    """Of what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].strip()
