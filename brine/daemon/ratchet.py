# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's part in the ratchet: when a key is made, announced and forgotten.

All state is in the maps (bpf/ratchet.h); here is the schedule of announcements, which a
restart may lose.

    own key older than the rekey interval, and data flowed     make the next one
    `brine rotate`, or 2^36 counters of a lane drawn           the same, as soon as it may be
    either side's former key still in use                      announce ours: at once, then
                                                               after 1, 2, 4, 5, 5 … s
    still so after 300 s, or number 240 reached                exchange
    peer's key adopted, or announced again                     answer with a keepalive, within 1 s
    `open` asks for a pair, which it may not make itself       have it made
    a former key still held                                    have it overwritten, once that is due

An association is looked at when something is due, or when an event says that it moved,
and its counters every 30 s: quiet peers cost nothing. The data path could say when a
counter passes the mark, but an event can be lost, a restart forgets it, and each packet
would pay for it; while a lane takes hours from 2^36 to 2^40, where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from brine import keys
from brine.daemon.admission import Bucket
from brine.daemon.associations import Associations
from brine.daemon.exchanges import Exchanges
from brine.daemon.journal import Log
from brine.daemon.peers import Peer, PeerTable
from brine.daemon.timers import SECOND, Timers
from brine.records import Association, ControlError, DeriveEvent, Ratchet

REKEY_INTERVAL = 120 * SECOND
UNSETTLED_LIFE = 300 * SECOND
LAST_GENERATION = 240  #: from here on a new exchange: numbers never wrap
LAST_COUNTERS = 1 << 36  #: of a lane, from here on a new key; `seal` stops at 2^40
COUNT_INTERVAL = 30 * SECOND
SOON = SECOND // 2
QUIET = 5 * SECOND  #: between two looks at whether data flows at last
ANSWER_INTERVAL = SECOND
# A second, and at once, of pairs that `open` asks for: no more than it asks (bpf/budget.h), but
# after a pause of the daemon all that it has asked meanwhile is there together.
ASKED = (100, 128)
_ANNOUNCEMENTS = (0, 1 * SECOND, 2 * SECOND, 4 * SECOND)  # after each other; then every:
_ANNOUNCEMENT_INTERVAL = 5 * SECOND
# The data path is at it, or the ratchet moved meanwhile; too early; erased by now.
_LATER = ("CONTROL_AGAIN", "CONTROL_NOT_DUE", "CONTROL_NO_ASSOCIATION")


class RatchetPath(Protocol):
    """What of brine.maps.Maps the ratchet needs."""

    def association(self, number: int) -> Association | None: ...
    def drawn(self, number: int, own: int, peer: int) -> int: ...
    def rotate(self, number: int, generation: int, private: bytes) -> None: ...
    def derive(self, number: int) -> None: ...
    def derive_pair(self, asked: DeriveEvent) -> None: ...
    def retire(self, number: int) -> bool: ...


class Keepalive(Protocol):
    """Injector.keepalive."""

    def __call__(self, peer: int, *, announce: bool = False) -> bool: ...


@dataclass
class _Watched:
    """One peer's current association."""

    local_index: int
    look_at: int
    pair: tuple[int, int] | None = None  # of both newest keys, as last announced
    announced: int = 0  # how often
    announce_at: int = 0
    answered: int = 0  # when a keepalive last answered the peer's key
    counted: int = 0  # when its counters were looked at


class Ratchets:
    """All peers' current associations."""

    def __init__(
        self,
        data_path: RatchetPath,
        table: PeerTable,
        timers: Timers,
        associations: Associations,
        exchanges: Exchanges,
        keepalive: Keepalive,
        log: Log,
        rekey_interval: int = REKEY_INTERVAL,
    ) -> None:
        self._data_path = data_path
        self._table = table
        self._timers = timers
        self._associations = associations
        self._exchanges = exchanges
        self._keepalive = keepalive
        self._log = log
        self._rekey_interval = rekey_interval
        self._watched: dict[int, _Watched] = {}  # by the peer's number
        #: peers for which a key is wanted. By number, not by association: an exchange that was
        #: under way when it was asked for has older keys.
        self._wanted: set[int] = set()
        self._asked = Bucket(*ASKED, timers.now())

    def tick(self) -> None:
        """Look at those that something is due for."""
        now = self._timers.now()
        for peer in self._table:
            found = self._watch(peer, now)
            if found is None:
                continue
            number, watched = found
            if now - watched.counted >= COUNT_INTERVAL:
                self._count(peer, number, watched, now)
            if watched.look_at <= now:
                self._look(peer, number, watched, now)

    @staticmethod
    def turns(peer: Peer) -> bool:
        """Whether the peer's current association has a ratchet to turn."""
        current = peer.current
        return current is not None and current.confirmed and not current.revoked

    def want(self, peer: Peer) -> bool:
        """Have our next key made, once the data path allows it: ten seconds after all that the
        one before left behind is gone. Whether that was now. A restart forgets it.
        """
        self._wanted.add(peer.number)
        now = self._timers.now()
        found = self._watch(peer, now)
        if found is not None:
            self._look(peer, *found, now)
        return peer.number not in self._wanted

    def _watch(self, peer: Peer, now: int) -> tuple[int, _Watched] | None:
        """The peer's current association, by number, if it has a ratchet to turn."""
        current = peer.current
        if current is None or not self.turns(peer):
            self._watched.pop(peer.number, None)
            return None
        watched = self._watched.get(peer.number)
        if watched is None or watched.local_index != current.local_index:
            watched = self._watched[peer.number] = _Watched(current.local_index, now)
        return current.number, watched

    def moved(self, peer: Peer, number: int) -> None:
        """The event says that the ratchet moved, or that the peer announced a key."""
        watched = self._watched.get(peer.number)
        current = peer.current
        if watched is None or current is None or current.number != number:
            return  # the next tick sees it
        now = self._timers.now()
        self._look(peer, number, watched, now)
        if now - watched.answered >= ANSWER_INTERVAL:
            watched.answered = now
            self._keepalive(peer.number)

    def asked(self, peer: Peer, event: DeriveEvent) -> None:
        """`open` has met a packet of a pair that it may not make, and dropped it. The peer
        sends another; what fails now is asked for again then."""
        if not self._asked.take(self._timers.now()):
            return
        try:
            self._data_path.derive_pair(event)
        except ControlError as error:
            if error.result not in (*_LATER, "CONTROL_ILLEGAL", "CONTROL_FAILED"):
                raise
            said = error.result
        else:
            said = "there now"
        self._log.debug(
            "pair asked for",
            peer=peer.name,
            own_generation=event.own_generation,
            peer_generation=event.peer_generation,
            result=said,
        )

    def _look(self, peer: Peer, number: int, watched: _Watched, now: int) -> None:
        watched.look_at = now + SOON
        found = self._data_path.association(number)
        if found is None or found.local_index != watched.local_index or found.state != "confirmed":
            return
        ratchet = found.ratchet
        if self._spent(ratchet, now):
            if peer.attempt is None:
                self._exchanges.initiate(peer, "ratchet")
            watched.look_at = now + QUIET
            return
        try:
            if ratchet.own_previous or ratchet.peer_previous:
                self._data_path.retire(number)
            if not ratchet.settled:
                self._announce(peer, number, watched, ratchet.newest, now)
            elif peer.number in self._wanted or self._due(peer, ratchet, now):
                generation = ratchet.own_current + 1
                self._data_path.rotate(number, generation, keys.generate_private())
                self._wanted.discard(peer.number)
                self._log.debug("key made", peer=peer.name, generation=generation)
                self._announce(peer, number, watched, (generation, ratchet.peer_current), now)
        except ControlError as error:
            if error.result == "CONTROL_FAILED" and peer.attempt is None:
                self._exchanges.initiate(peer, "pair without a box")
            elif error.result not in (*_LATER, "CONTROL_FAILED"):
                raise
            return  # and again at the next tick
        watched.look_at = self._next(ratchet, watched, now)

    def _count(self, peer: Peer, number: int, watched: _Watched, now: int) -> None:
        """Want a key if few counters are left."""
        if self._associations.state(peer).last_data_sent < watched.counted:
            return  # none were drawn since
        watched.counted = now
        found = self._data_path.association(number)
        if found is None:
            return
        ratchet = found.ratchet
        if self._data_path.drawn(number, ratchet.send_own, ratchet.send_peer) >= LAST_COUNTERS:
            self._wanted.add(peer.number)
            watched.look_at = now

    @staticmethod
    def _spent(ratchet: Ratchet, now: int) -> bool:
        return (
            ratchet.own_current >= LAST_GENERATION
            or ratchet.peer_current >= LAST_GENERATION
            or (not ratchet.settled and now - ratchet.own_since >= UNSETTLED_LIFE)
        )

    def _due(self, peer: Peer, ratchet: Ratchet, now: int) -> bool:
        if now - ratchet.own_since < self._rekey_interval:
            return False
        state = self._associations.state(peer)
        return max(state.last_data_sent, state.last_data_received) > ratchet.own_since

    def _announce(
        self, peer: Peer, number: int, watched: _Watched, pair: tuple[int, int], now: int
    ) -> None:
        """Have our newest key announced on the pair of both newest, if that is due.

        :raises ControlError: if the pair cannot be made now.
        """
        if pair == watched.pair and now < watched.announce_at:
            return
        self._data_path.derive(number)
        if pair != watched.pair:
            watched.pair, watched.announced = pair, 0
        self._keepalive(peer.number, announce=True)
        watched.announced += 1
        step = _ANNOUNCEMENT_INTERVAL
        if watched.announced < len(_ANNOUNCEMENTS):
            step = _ANNOUNCEMENTS[watched.announced]
        watched.announce_at = now + step

    def _next(self, ratchet: Ratchet, watched: _Watched, now: int) -> int:
        if not ratchet.settled or ratchet.own_previous or ratchet.peer_previous:
            return now + SOON
        if watched.announce_at >= now:  # made just now: the ratchet is what it was before
            return now + SOON
        return max(ratchet.own_since + self._rekey_interval, now + QUIET)
