# SPDX-License-Identifier: GPL-3.0-or-later
"""Indices by which peers name our associations: random, unique, rested."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable

from brine.daemon.timers import SECOND

REST = 600 * SECOND  #: before an index names another association


class Indices:
    """Allots 32-bit indices. `now` is the clock, in ns; `taken` are never allotted: former maps
    may have them, and `open` asks those in use first."""

    def __init__(self, now: Callable[[], int], taken: Iterable[int] = ()) -> None:
        self._now = now
        self._taken: set[int] = set(taken)
        self._resting: deque[tuple[int, int]] = deque()

    def allot(self) -> int:
        """A random index that nothing has used for 600 s."""
        now = self._now()
        while self._resting and self._resting[0][0] <= now:
            self._taken.discard(self._resting.popleft()[1])
        while True:
            index = secrets.randbits(32)
            if index and index not in self._taken:
                self._taken.add(index)
                return index

    def adopt(self, index: int) -> None:
        """An index that an earlier run allotted and that still lives."""
        self._taken.add(index)

    def release(self, index: int) -> None:
        """It names nothing any more; let it rest."""
        self._resting.append((self._now() + REST, index))
