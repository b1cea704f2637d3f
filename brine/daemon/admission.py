# SPDX-License-Identifier: GPL-3.0-or-later
"""Which INITIATIONs are worth a Diffie-Hellman: a bucket, and cookies once it is empty.

As long as the bucket has tokens, every INITIATION with a valid mac1 is answered.
After that only those whose sender has shown, by mac2, that it receives what is
sent to its address, and of those so many per address.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from brine import keys
from brine.daemon.timers import SECOND
from brine.roster import Endpoint

BURST = 512  # a fleet that restarts as one is no attack
RATE = 200  # a second; a responder spends about a millisecond on each
BURST_PER_SOURCE = 8
RATE_PER_SOURCE = 4
SOURCES = 4096  # remembered; the least recent goes
SECRET_LIFE = 120 * SECOND  # of R
COOKIE_LIFE = 120 * SECOND  # how long an initiator tries with it


class Bucket:
    """`rate` tokens a second, `burst` at most, full at first."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: int, burst: int, now: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._updated = now

    def take(self, now: int) -> bool:
        """Spend a token if there is one."""
        earned = (now - self._updated) * self._rate / SECOND
        self._tokens = min(float(self._burst), self._tokens + earned)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admit(Enum):
    ANSWER = "answer"
    COOKIE = "cookie"  #: answer with a COOKIE
    SILENCE = "silence"


class Admission:
    """`now`: the clock, ns."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._all = Bucket(RATE, BURST, now())
        self._sources: OrderedDict[bytes, Bucket] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self._secret_made = now()
        self.cookies = 0  #: INITIATIONs that were answered with a COOKIE

    def judge(self, source: Endpoint, shows: Callable[[bytes], bool]) -> Admit:
        """What to do with an INITIATION whose mac1 fits.

        :param shows: whether its mac2 was made with the cookie given.
        """
        now = self._now()
        if self._all.take(now):
            return Admit.ANSWER
        if not shows(self.cookie(source)):
            self.cookies += 1
            return Admit.COOKIE
        return Admit.ANSWER if self._source(source).take(now) else Admit.SILENCE

    def cookie(self, source: Endpoint) -> bytes:
        """The cookie of that source as long as R lives: 16 bytes."""
        now = self._now()
        if now - self._secret_made >= SECRET_LIFE:
            self._secret = secrets.token_bytes(32)
            self._secret_made = now
        return keys.cookie(self._secret, mapped(source), source.port)

    def _source(self, source: Endpoint) -> Bucket:
        # Whoever has one IPv6 address has the /64 around it.
        key = mapped(source) if source.address.version == 4 else mapped(source)[:8]
        bucket = self._sources.pop(key, None)
        if bucket is None:
            bucket = Bucket(RATE_PER_SOURCE, BURST_PER_SOURCE, self._now())
            if len(self._sources) >= SOURCES:
                self._sources.popitem(last=False)
        self._sources[key] = bucket
        return bucket


def mapped(source: Endpoint) -> bytes:
    """The address as 16 bytes, IPv4 mapped (RFC 4291, 2.5.5.2)."""
    if isinstance(source.address, ipaddress.IPv6Address):
        return source.address.packed
    return bytes(10) + b"\xff\xff" + source.address.packed
