# SPDX-License-Identifier: GPL-3.0-or-later
"""Which INITIATIONs are worth a Diffie-Hellman: buckets, and cookies once they are empty.

The second line behind bpf/admission.h, which has dropped all that mac1 does not fit, and cuts
floods down to rates somewhat above these. What comes in fragments has not passed it.

As long as a bucket has tokens, every INITIATION with a valid mac1 is answered. After that only
those whose sender has shown, by mac2, that it receives what is sent to its address, and of
those so many per address. Peers' addresses have buckets of their own, so that strangers take
nothing from them.
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

# A second, and at once. To refuse a stranger takes some 0.3 ms of a CPU, an association 2 ms.
PEERS = (200, 512)  # a fleet that restarts as one is no attack
STRANGERS = (50, 128)  # peers that roam, or sit behind a translator
SHOWN_PEERS = (100, 128)  # with mac2
SHOWN_STRANGERS = (50, 64)
COOKIES = (400, 512)
SOURCE = (4, 8)  # with mac2, of one address
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
    """:param now: the clock, ns.
    :param publish: R is this until then, ns: for the data path to check mac2 by.
    """

    def __init__(
        self, now: Callable[[], int], publish: Callable[[bytes, int], None] = lambda *_: None
    ) -> None:
        self._now = now
        self._publish = publish
        self._unshown = self._buckets(STRANGERS, PEERS)
        self._shown = self._buckets(SHOWN_STRANGERS, SHOWN_PEERS)
        self._replies = Bucket(*COOKIES, now())
        self._sources: OrderedDict[bytes, Bucket] = OrderedDict()
        self._renew()
        self.cookies = 0  #: INITIATIONs that were answered with a COOKIE
        self.ignored = 0  #: with nothing at all

    def _buckets(self, *rates: tuple[int, int]) -> list[Bucket]:
        return [Bucket(*each, self._now()) for each in rates]

    def judge(self, source: Endpoint, listed: bool, shows: Callable[[bytes], bool]) -> Admit:
        """What to do with an INITIATION whose mac1 fits.

        :param listed: whether it comes from a peer's address.
        :param shows: whether its mac2 was made with the cookie given.
        """
        now = self._now()
        if self._unshown[listed].take(now):
            return Admit.ANSWER
        if shows(self.cookie(source)):
            if self._source(source).take(now) and self._shown[listed].take(now):
                return Admit.ANSWER
        elif self._replies.take(now):
            self.cookies += 1
            return Admit.COOKIE
        self.ignored += 1
        return Admit.SILENCE

    def cookie(self, source: Endpoint) -> bytes:
        """The cookie of that source as long as R lives: 16 bytes."""
        if self._now() - self._secret_made >= SECRET_LIFE:
            self._renew()
        return keys.cookie(self._secret, mapped(source), source.port)

    def _renew(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._secret_made = self._now()
        self._publish(self._secret, self._secret_made + SECRET_LIFE)

    def _source(self, source: Endpoint) -> Bucket:
        # Whoever has one IPv6 address has the /64 around it.
        key = mapped(source) if source.address.version == 4 else mapped(source)[:8]
        bucket = self._sources.pop(key, None)
        if bucket is None:
            bucket = Bucket(*SOURCE, self._now())
            if len(self._sources) >= SOURCES:
                self._sources.popitem(last=False)
        self._sources[key] = bucket
        return bucket


def mapped(source: Endpoint) -> bytes:
    """The address as 16 bytes, IPv4 mapped (RFC 4291, 2.5.5.2)."""
    if isinstance(source.address, ipaddress.IPv6Address):
        return source.address.packed
    return bytes(10) + b"\xff\xff" + source.address.packed
