# SPDX-License-Identifier: GPL-3.0-or-later
"""TAI64N timestamps: our own, which never repeat, and the peers' floors.

A TAI64N (cr.yp.to/libtai/tai64.html) is 12 bytes, big-endian, so that bytes
compare as times do.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from enum import Enum

from brine.daemon.timers import SECOND

SIZE = 12
_EPOCH = (1 << 62) + 10  # TAI64 label of 1970-01-01, TAI being ten seconds ahead then
_TAI64N = struct.Struct(">QI")
PROVISIONAL = 90 * SECOND  #: how long an unconfirmed initiation is a floor
RESERVE = 10 * SECOND  #: own timestamps reserved at once, to spare disk writes


def encode(unix_ns: int) -> bytes:
    """TAI64N of a UNIX time in ns."""
    return _TAI64N.pack(_EPOCH + unix_ns // SECOND, unix_ns % SECOND)


def decode(stamp: bytes) -> int:
    """UNIX time in ns of a TAI64N.

    :raises ValueError: if these are not 12 bytes with fewer than 10^9 nanoseconds.
    """
    if len(stamp) != SIZE:
        raise ValueError(f"a TAI64N has {SIZE} bytes, not {len(stamp)}")
    seconds, nanoseconds = _TAI64N.unpack(stamp)
    if nanoseconds >= SECOND:
        raise ValueError("a TAI64N with more than 999999999 ns")
    return int((seconds - _EPOCH) * SECOND + nanoseconds)


class OwnTimestamps:
    """max(now, last + 1), over restarts too: what may be used is reserved on disk first.

    :param last: the last one reserved, UNIX ns, from disk.
    :param reserve: writes a new one to disk; returns when it is there.
    """

    def __init__(
        self,
        last: int,
        reserve: Callable[[int], None],
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self.last = last
        self._reserved = last
        self._reserve = reserve
        self._wall = wall

    def next(self) -> bytes:
        """The timestamp of the next INITIATION.

        :raises OSError: if it cannot be reserved; then none may be sent.
        """
        stamp = max(self._wall(), self.last + 1)
        if stamp > self._reserved:
            self._reserve(stamp + RESERVE)
            self._reserved = stamp + RESERVE
        self.last = stamp
        return encode(stamp)


class Verdict(Enum):
    """What a floor says of an authentic INITIATION's timestamp."""

    FRESH = "fresh"
    REPLAYED = "replayed"  #: the very one that set the floor
    BELOW = "below"  #: older: a replay, or a clock that was ahead


class Floors:
    """By identity, the newest timestamp of a confirmed INITIATION, and for 90 s of any.

    :param confirmed: what is on disk.
    :param now: the clock of `PROVISIONAL`, ns.
    """

    def __init__(self, confirmed: dict[bytes, bytes], now: Callable[[], int]) -> None:
        self.confirmed = dict(confirmed)
        self.dirty = False  #: whether `confirmed` is ahead of the disk
        self._provisional: dict[bytes, tuple[bytes, int]] = {}
        self._now = now

    def judge(self, identity: bytes, stamp: bytes) -> Verdict:
        """Compare with the floor; changes nothing."""
        floor = self.confirmed.get(identity, b"")
        provisional, until = self._provisional.get(identity, (b"", 0))
        if self._now() < until:
            floor = max(floor, provisional)
        if stamp > floor:
            return Verdict.FRESH
        return Verdict.REPLAYED if stamp == floor else Verdict.BELOW

    def hold(self, identity: bytes, stamp: bytes) -> None:
        """A fresh INITIATION was answered: a floor for 90 s."""
        self._provisional[identity] = (stamp, self._now() + PROVISIONAL)

    def confirm(self, identity: bytes, stamp: bytes) -> None:
        """Its association works: a floor that lasts."""
        if stamp > self.confirmed.get(identity, b""):
            self.confirmed[identity] = stamp
            self.dirty = True

    def keep_only(self, identities: set[bytes]) -> None:
        """Forget provisional floors of who is no peer any more. Confirmed ones stay:
        a host that returns must not become open to replays."""
        for identity in self._provisional.keys() - identities:
            del self._provisional[identity]
