# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the peers are and where: the maps say who and where packets go; where else they may go
the roster says, and of a peer that roams its packets."""

from __future__ import annotations

from pathlib import Path

from brine import keys
from brine.daemon.associations import Associations
from brine.daemon.exchanges import Exchanges
from brine.daemon.identities import Identities
from brine.daemon.journal import Log
from brine.daemon.peers import Peer, PeerTable
from brine.daemon.timers import SECOND, Timers
from brine.locking import Busy, locked
from brine.maps import Maps
from brine.roster import Endpoint
from brine.sources import Followed

STAGGER = SECOND // 200  #: between exchanges that a change of addresses begins
WAIT = SECOND // 4  #: until the maps may be written that somebody else was changing


class Membership:
    """Keeps the table of peers and the maps the same."""

    def __init__(
        self, maps: Maps, apply_lock: Path, table: PeerTable, timers: Timers, log: Log
    ) -> None:
        self._maps = maps
        self._apply_lock = apply_lock
        self._table = table
        self._timers = timers
        self._log = log
        self._waiting: dict[Peer, Endpoint] = {}  # where they are, while the maps are others'

    def follow(
        self, identities: Identities, exchanges: Exchanges, associations: Associations
    ) -> None:
        """Follow the maps: who is new, who is gone, who is elsewhere."""
        found = self._maps.peers()
        for peer in self._table:
            entry = found.get(peer.number)
            if entry is None or entry.identity not in peer.identities:
                exchanges.leave(peer)
                associations.erase_all([peer], "peer removed")
                self._table.remove(peer)
        for entry in found.values():
            known = self._table.by_number.get(entry.number)
            if known is None:
                known = Peer(
                    number=entry.number,
                    identity=entry.identity,
                    name=keys.key_id(entry.identity),
                    endpoint=entry.endpoint,
                    roaming=entry.roaming,
                )
                self._table.add(known)
            identities.name(known, entry.identity)
            known.roaming = entry.roaming
            endpoints = identities.members.endpoints(entry.identity)
            self._table.move(known, entry.endpoint, endpoints)

    def moved(self, peer: Peer, endpoint: Endpoint) -> None:
        """A roaming peer is elsewhere, or another is reached at another of its endpoints. Noted
        once nobody else changes the maps: by then the slot may be another peer's."""
        try:
            with locked(self._apply_lock, wait=False):
                self._waiting.pop(peer, None)
                self._note(peer, endpoint)
        except Busy:
            if not self._waiting:
                self._timers.after(WAIT, self._note_waiting)
            self._waiting[peer] = endpoint

    def _note_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for peer, endpoint in waiting.items():
            if self._table.by_number.get(peer.number) is peer:
                self.moved(peer, endpoint)

    def _note(self, peer: Peer, endpoint: Endpoint) -> None:
        slot = self._maps.peer(peer.number)
        if slot is None or slot.identity not in peer.identities:
            return  # `brine peers apply` has just given it to another: a reload follows
        former = peer.endpoint
        self._table.move(peer, endpoint)
        self._maps.write_peer(peer.number, slot.identity, endpoint, slot.roaming)
        self._maps.set_endpoint(endpoint.address, peer.number)
        if former is not None and former.address != endpoint.address:
            if there := self._table.at(former.address):
                self._maps.set_endpoint(former.address, there[0].number)
            else:
                self._maps.delete_endpoint(former.address)
        self._log.info("peer moved", peer=peer.name, endpoint=endpoint)

    def look_again(self, found: Followed, exchanges: Exchanges) -> None:
        """The host's addresses have changed. Peers that it reached by a family that it can
        send by no more are reached by another; where it has another of its own endpoints now,
        an exchange tells those who send to the former."""
        wait = 0
        for peer in self._table:
            version = peer.endpoint and peer.endpoint.address.version
            if version in found.families and version not in found.renamed:
                continue
            if version not in found.families:
                there = (one for one in peer.endpoints if one.address.version in found.families)
                endpoint = next(there, None)
                if endpoint is None:
                    continue
                self.moved(peer, endpoint)
            if peer.current is not None:
                self._timers.after(wait, lambda peer=peer: self._tell(peer, exchanges))  # type: ignore[misc]
                wait += STAGGER

    def _tell(self, peer: Peer, exchanges: Exchanges) -> None:
        if self._table.by_number.get(peer.number) is peer:
            exchanges.initiate(peer, "addresses")
