# SPDX-License-Identifier: GPL-3.0-or-later
"""The event loop: one thread, epoll, a heap of timers.

Not asyncio: every event here is a short call that never waits, so coroutines
would add a scheduler, and states between awaits, to what is a table of file
descriptors and a heap. The only place that blocks is `select`.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Protocol

from brine.daemon.timers import SECOND, Timers

# The boot clock counts suspend, the selector's does not: look at it this often.
_LONGEST_WAIT = SECOND // 2


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Loop:
    """Calls `ready` of whatever is readable and the timers that are due."""

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self._selector = selectors.DefaultSelector()
        self._running = False

    def watch(self, source: HasFileno | int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever `source` is readable."""
        self._selector.register(source, selectors.EVENT_READ, ready)

    def watch_write(self, source: HasFileno | int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever `source` takes bytes, instead of when it has some."""
        self._selector.modify(source, selectors.EVENT_WRITE, ready)

    def forget(self, source: HasFileno | int) -> None:
        """Stop watching, before `source` is closed."""
        self._selector.unregister(source)

    def run(self) -> None:
        """Until :meth:`stop`."""
        self._running = True
        while self._running:
            self.step()

    def step(self) -> None:
        """Wait for something, no longer than half a second, and handle it."""
        wait = _LONGEST_WAIT
        deadline = self.timers.next_deadline()
        if deadline is not None:
            wait = max(0, min(wait, deadline - self.timers.now()))
        for key, _events in self._selector.select(wait / SECOND):
            key.data()
        self.timers.run_due()

    def stop(self) -> None:
        self._running = False

    def close(self) -> None:
        self._selector.close()
