# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process and its children take of the machine, from /proc."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.5  # s
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Memory:
    """The most so far, in bytes."""

    main: int = 0  #: of the process itself, resident
    all: int = 0  #: of it and its children at once; of shared pages its part: proc(5), Pss


def seconds(pid: int) -> float:
    """Of processors, that the process and its children that have ended took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICK  # utime, stime, cutime, cstime


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Memory]:
    """Look at the process every half second until the end of the block."""
    memory, ending = Memory(), threading.Event()

    def look() -> None:
        while not ending.wait(_INTERVAL):
            memory.main = max(memory.main, _bytes(pid, "status", "VmHWM"))
            pids = [pid, *_children(pid)]
            memory.all = max(memory.all, sum(_bytes(one, "smaps_rollup", "Pss") for one in pids))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        ending.set()
        thread.join()


def _children(pid: int) -> Iterator[int]:
    """With their children."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from _children(child)


def _bytes(pid: int, file: str, name: str) -> int:
    """0 if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/{file}").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
