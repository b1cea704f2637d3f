# SPDX-License-Identifier: GPL-3.0-or-later
"""Timers on one clock: a heap of deadlines.

The clock is the boot clock in the daemon (it counts suspend, and the kernel
checks ages by it) and a variable in tests.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

SECOND = 1_000_000_000  #: ns


class Timer:
    """One call in the future. Cancelling it twice, or after its call, is harmless."""

    __slots__ = ("call", "deadline")

    def __init__(self, deadline: int, call: Callable[[], None]) -> None:
        self.deadline = deadline
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Timers:
    """A heap of timers; `now` gives nanoseconds."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = itertools.count()

    def at(self, deadline: int, call: Callable[[], None]) -> Timer:
        """Call once the clock has reached `deadline`."""
        timer = Timer(deadline, call)
        heapq.heappush(self._heap, (deadline, next(self._sequence), timer))
        return timer

    def after(self, delay: int, call: Callable[[], None]) -> Timer:
        """Call in `delay` nanoseconds."""
        return self.at(self.now() + delay, call)

    def next_deadline(self) -> int | None:
        """When :meth:`run_due` next has something to do."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Make the calls whose time has come, in their order."""
        now = self.now()
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()
