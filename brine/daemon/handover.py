# SPDX-License-Identifier: GPL-3.0-or-later
"""After maps of another layout have taken the place of the former ones: exchanges with every
peer that there had an association, whose packets go by it until there is another.

    a peer with a former association      an exchange, at once, and again until there is one
    its new association is confirmed      10 s later the former one is overwritten
    the peer is gone, or the last         overwritten
    key has ended
    nothing is left                       the former programs are handed nothing any more, and
                                          the former maps are removed
    the roster drops one of its           overwritten
    identities
    our identity, secret or address       all of the above at once: the former programs know
    is another                            nothing of it

Called every half second; without former maps it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Protocol

from brine.daemon.associations import OVERLAP
from brine.daemon.exchanges import RETRY, Exchanges
from brine.daemon.journal import Log
from brine.daemon.peers import Peer, PeerTable
from brine.daemon.settings import Members
from brine.daemon.timers import Timers
from brine.locking import Busy, locked

#: exchanges begun in one tick: a thousand peers need a minute, and keys last for two at least
AT_ONCE = 8


class Left(Protocol):
    """What of brine.former.Former this needs."""

    until: int

    def erase(self, identity: bytes) -> None: ...
    def erase_all(self) -> None: ...


class AllLeft(Protocol):
    """What of brine.former.Formers this needs."""

    @property
    def all(self) -> Sequence[Left]: ...
    def identities(self) -> Set[bytes]: ...
    def erase(self, identity: bytes) -> None: ...
    def take_away(self, in_use: Path) -> None: ...


class InUse(Protocol):
    """What of brine.maps.Maps this needs."""

    @property
    def directory(self) -> Path: ...
    def stale(self) -> bool: ...


class Handover:
    """From the former maps to those in use."""

    def __init__(
        self,
        formers: AllLeft,
        maps: InUse,
        apply_lock: Path,
        table: PeerTable,
        timers: Timers,
        exchanges: Exchanges,
        log: Log,
    ) -> None:
        self._formers = formers
        self._maps = maps
        self._apply_lock = apply_lock
        self._table = table
        self._timers = timers
        self._exchanges = exchanges
        self._log = log
        self._confirmed: dict[bytes, int] = {}  # identity -> since when its new one is seen to be

    def tick(self) -> None:
        """Once through all that is left."""
        if not self._formers.all:
            return
        now = self._timers.now()
        begun = 0
        for identity in self._formers.identities():
            peer = self._table.by_identity.get(identity)
            if peer is None or self._superseded(identity, peer, now):
                self._formers.erase(identity)
            elif begun < AT_ONCE and self._wants(peer, now):
                self._exchanges.initiate(peer, "layout")
                begun += 1
        for former in self._formers.all:
            if now >= former.until:
                former.erase_all()
        if not self._formers.identities() or all(
            now >= former.until for former in self._formers.all
        ):
            self._finish()

    def end(self, reason: str) -> None:
        """Whatever is left is not to be used any more."""
        if not self._formers.all:
            return
        self._log.info("former maps erased", reason=reason)
        for former in self._formers.all:
            former.erase_all()
        self._finish()

    def follow(self, before: Members, after: Members) -> None:
        """Another roster. A peer that it allows an identity less may have had the former
        association by that one."""
        for identity in self._formers.identities():
            if set(before.identities(identity)) - set(after.identities(identity)):
                self._formers.erase(identity)

    def _superseded(self, identity: bytes, peer: Peer, now: int) -> bool:
        """Whether what the peer sent under the former association has arrived."""
        if peer.current is None or not peer.current.confirmed:
            self._confirmed.pop(identity, None)
            return False
        return now - self._confirmed.setdefault(identity, now) >= OVERLAP

    def _wants(self, peer: Peer, now: int) -> bool:
        if peer.endpoint is None or peer.attempt is not None or peer.current is not None:
            return False
        pending = peer.pending()
        return pending is None or now - pending.created >= RETRY

    def _finish(self) -> None:
        try:
            with locked(self._apply_lock, wait=False):
                if self._maps.stale():  # the daemon of those in use sees to it
                    return
                self._formers.take_away(self._maps.directory)
        except Busy:
            return  # the next tick
        except OSError as error:
            self._log.warning("former maps not removed", cause=error.strerror)
            return
        self._log.info("former maps removed")
