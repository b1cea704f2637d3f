# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of associations: installed, published, confirmed, superseded, erased.

The maps are the truth; this keeps beside them what the maps need not know (when
to renew, what to erase) and can be rebuilt from them at any moment.

    association    enters                leaves
    pending        RESPONSE sent         first packet opens → confirmed; a newer INITIATION; 90 s
    unconfirmed    RESPONSE received     first packet opens → confirmed; a newer one
    confirmed      above                 10 s after a newer one is confirmed; receive_not_after

Packets are sealed under the peer's `current`: the newest that is not pending. Both sides see
the same order, since of two exchanges that cross only one is answered (exchanges.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from brine.daemon.indices import Indices
from brine.daemon.journal import Log
from brine.daemon.peers import Living, Peer, PeerTable
from brine.daemon.timers import SECOND, Timers
from brine.exchange import Established
from brine.records import Association, ControlError, PeerState
from brine.roster import Endpoint

RENEW_INITIATOR = 3600 * SECOND
RENEW_RESPONDER = 3660 * SECOND
STOP_SENDING = 3900 * SECOND
ERASE = 3960 * SECOND
UNCONFIRMED_LIFE = 90 * SECOND
REST = 10 * SECOND  #: of a slot before it is filled again (protocol.md, Boxes)
OVERLAP = 10 * SECOND  #: an older association lives on after the newer one is confirmed
# Of an earlier run of the daemon, or erased by somebody else.
_OCCUPIED = ("CONTROL_NOT_FREE", "CONTROL_RESTING", "CONTROL_BUSY")
#: an association lives on after an identity that it was made with, so that there can be another
REVOKED_LIFE = 30 * SECOND
PER_PEER = 3  #: previous, current, one unconfirmed


class DataPath(Protocol):
    """What of brine.maps.Maps the exchange needs."""

    @property
    def max_associations(self) -> int: ...
    def associations(self) -> list[Association]: ...
    def association(self, number: int) -> Association | None: ...
    def peer_state(self, number: int) -> PeerState: ...
    def publish(self, number: int) -> None: ...
    def erase(self, number: int) -> None: ...

    def install(
        self,
        number: int,
        peer: int,
        established: Established,
        send_not_after: int,
        receive_not_after: int,
    ) -> None: ...


class NoSlot(Exception):
    """Every slot for associations is in use or at rest."""


class Associations:
    """All of this host's.

    :param confirmed: called once a peer's association has opened its first packet.
    :param renew: called when a peer's current one is to be replaced.
    """

    def __init__(
        self,
        data_path: DataPath,
        timers: Timers,
        indices: Indices,
        log: Log,
        confirmed: Callable[[Peer, Living], None],
        renew: Callable[[Peer], None],
    ) -> None:
        self._data_path = data_path
        self._timers = timers
        self._indices = indices
        self._log = log
        self._confirmed = confirmed
        self._renew = renew
        self._free: deque[tuple[int, int]] = deque()  # not before, number
        #: to be looked at every tick: an event may have been lost
        self.unconfirmed: dict[int, Peer] = {}
        self._local: set[int] = set()  # indices of living associations
        self.dirty = False  #: whether there are others than on disk

    def knows(self, index: int) -> bool:
        """Whether a living association has this index."""
        return index in self._local

    # From and to the maps

    def adopt(
        self, table: PeerTable, made_with: Mapping[int, tuple[bytes, bytes]] = MappingProxyType({})
    ) -> int:
        """Take over what the maps hold, erase what cannot go on. How many were kept.

        :param made_with: own and peer's identity by local index, as an earlier run noted them.
        """
        now = self._timers.now()
        used: set[int] = set()
        for found in self._data_path.associations():
            peer = table.by_number.get(found.peer)
            if found.state == "claimed":  # for good: nothing may come of it any more
                used.add(found.number)
                continue
            if (
                peer is None
                or found.state == "erasing"  # by a daemon before this one
                or found.receive_not_after <= now
            ):
                self._data_path.erase(found.number)
                continue
            used.add(found.number)
            self._indices.adopt(found.local_index)
            own, theirs = made_with.get(found.local_index, (None, None))
            living = Living(
                number=found.number,
                local_index=found.local_index,
                initiated=found.initiated,
                created=found.created,
                send_not_after=found.send_not_after,
                receive_not_after=found.receive_not_after,
                confirmed=found.state == "confirmed",
                own=own,
                theirs=theirs,
            )
            if not living.initiated:
                peer.used = theirs
            peer.living.append(living)
            self._watch(peer, living)
        for number in range(self._data_path.max_associations):
            if number not in used:
                self._free.append((0, number))
        for peer in table:
            self.elect(peer)
        return sum(len(peer.living) for peer in table)

    def install(
        self,
        peer: Peer,
        established: Established,
        *,
        timestamp: bytes | None = None,
        source: Endpoint | None = None,
    ) -> Living:
        """Install, and publish if we initiated; a peer's older unconfirmed one is erased.

        :raises NoSlot: if the maps are full.
        :raises ControlError: if the control program refuses.
        """
        now = self._timers.now()
        number = self._fill(peer, established, now)
        living = Living(
            number=number,
            local_index=established.local_index,
            initiated=established.initiated,
            created=now,
            send_not_after=now + STOP_SENDING,
            receive_not_after=now + ERASE,
            timestamp=timestamp,
            source=source,
            own=established.own_identity,
            theirs=established.peer_identity,
        )
        self.dirty = True
        older = [one for one in peer.living if one.initiated == living.initiated]
        peer.living.append(living)
        self._watch(peer, living)
        self.elect(peer)
        for one in older:
            if not one.confirmed and not self.look(peer, one):
                self.erase(peer, one, "replaced")
        while len(peer.living) > PER_PEER:
            self.erase(peer, self._least(peer), "too many")
        return living

    def _fill(self, peer: Peer, established: Established, now: int) -> int:
        """Install into a slot that is free, which the data path knows best. It knows the peer
        by the identity that its slot bears, whichever of the peer's this was made with."""
        established = replace(established, peer_identity=peer.identity)
        for _attempt in range(len(self._free)):
            number = self._take(now)
            try:
                self._data_path.install(
                    number, peer.number, established, now + STOP_SENDING, now + ERASE
                )
            except ControlError as error:
                self._release(number)
                if error.result not in _OCCUPIED:
                    raise
            else:
                return number
        raise NoSlot

    def _least(self, peer: Peer) -> Living:
        others = [one for one in peer.living if one is not peer.current]
        return min(others, key=lambda one: (not one.confirmed, one.created))

    def look(self, peer: Peer, living: Living) -> bool:
        """Whether the data path has confirmed it; if so, see to what follows."""
        if living.confirmed:
            return True
        found = self._data_path.association(living.number)
        if found is None or found.local_index != living.local_index or found.state != "confirmed":
            return False
        living.confirmed = True
        self._watch(peer, living)
        self.elect(peer)
        self._confirmed(peer, living)
        return True

    def state(self, peer: Peer) -> PeerState:
        """What the data path notes of the peer."""
        return self._data_path.peer_state(peer.number)

    def elect(self, peer: Peer) -> None:
        """Choose what packets are sealed under, and let the others end."""
        sending = [one for one in peer.living if one.sends]
        candidates = [one for one in sending if not one.revoked] or sending
        if not candidates:
            peer.current = None
            return
        best = max(candidates, key=lambda one: one.created)
        if self._data_path.peer_state(peer.number).sending != best.number:
            self._data_path.publish(best.number)
        if peer.current is not best:
            peer.current = best
            peer.published = self._timers.now()
            if not best.revoked:
                self._end_at(peer, best, best.receive_not_after, "expired")
        self._retire(peer)

    def let_go(self, peer: Peer, living: Living) -> None:
        """It was made with an identity that is no longer accepted: another takes its place
        if there is one, and it soon ends."""
        if living.revoked:
            return
        living.revoked = True
        self._end_at(peer, living, self._timers.now() + REVOKED_LIFE, "identity retired")
        self.elect(peer)

    def _retire(self, peer: Peer) -> None:
        """Both directions of the current one work: the others end soon, but one that still
        waits for the peer's first packet."""
        if peer.current is None or not peer.current.confirmed:
            return
        end = self._timers.now() + OVERLAP
        for one in peer.living:
            if one is not peer.current and one.sends:
                if one.renew is not None:
                    one.renew.cancel()
                if one.end is None or one.end.call is None or one.end.deadline > end:
                    self._end_at(peer, one, end, "superseded")

    def erase(self, peer: Peer, living: Living, reason: str) -> None:
        """Out of the maps, its index to rest."""
        if living not in peer.living:
            return
        for timer in (living.end, living.renew, living.prove):
            if timer is not None:
                timer.cancel()
        peer.living.remove(living)
        self.unconfirmed.pop(living.number, None)
        self._local.discard(living.local_index)
        self._data_path.erase(living.number)
        self._release(living.number)
        self._indices.release(living.local_index)
        self._log.info(
            "association erased", peer=peer.name, association=living.number, reason=reason
        )
        if living is peer.current:
            peer.current = None
            self.elect(peer)

    def erase_all(self, peers: Iterable[Peer], reason: str) -> None:
        """Every association of these peers."""
        for peer in peers:
            peer.current = None
            for living in list(peer.living):
                self.erase(peer, living, reason)

    # Slots and timers

    def _take(self, now: int) -> int:
        """A free slot, longest at rest: nobody reads it any more."""
        if not self._free or self._free[0][0] > now:
            raise NoSlot
        return self._free.popleft()[1]

    def _release(self, number: int) -> None:
        self._free.append((self._timers.now() + REST, number))

    def _watch(self, peer: Peer, living: Living) -> None:
        """Set the timers that its state asks for."""
        self._local.add(living.local_index)
        if not living.confirmed:
            self.unconfirmed[living.number] = peer
        else:
            self.unconfirmed.pop(living.number, None)
        if living.sends:
            self._end_at(peer, living, living.receive_not_after, "expired")
            self._renew_at(peer, living)
        else:
            self._end_at(peer, living, living.created + UNCONFIRMED_LIFE, "never confirmed")

    def _end_at(self, peer: Peer, living: Living, when: int, reason: str) -> None:
        if living.end is not None:
            living.end.cancel()

        def end() -> None:
            if living.confirmed or not self.look(peer, living):
                self.erase(peer, living, reason)

        living.end = self._timers.at(when, end)

    def _renew_at(self, peer: Peer, living: Living) -> None:
        if living.renew is not None:
            living.renew.cancel()

        def renew() -> None:
            if living is peer.current:
                self._renew(peer)

        age = RENEW_INITIATOR if living.initiated else RENEW_RESPONDER
        living.renew = self._timers.at(living.created + age, renew)
