# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the peers are and where: the maps say who, and a roaming peer's packets say where."""

from __future__ import annotations

from brine import keys
from brine.daemon.associations import Associations
from brine.daemon.exchanges import Exchanges
from brine.daemon.identities import Identities
from brine.daemon.journal import Log
from brine.daemon.peers import Peer, PeerTable
from brine.maps import Maps
from brine.roster import Endpoint


class Membership:
    """Keeps the table of peers and the maps the same."""

    def __init__(self, maps: Maps, table: PeerTable, log: Log) -> None:
        self._maps = maps
        self._table = table
        self._log = log

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
            if known.endpoint != entry.endpoint:
                self._table.move(known, entry.endpoint)

    def moved(self, peer: Peer, endpoint: Endpoint) -> None:
        """A roaming peer is elsewhere."""
        former = peer.endpoint
        self._table.move(peer, endpoint)
        self._maps.write_peer(peer.number, peer.identity, endpoint, peer.roaming)
        self._maps.set_endpoint(endpoint.address, peer.number)
        if former is not None and not self._table.at(former.address):
            self._maps.delete_endpoint(former.address)
        self._log.info("peer moved", peer=peer.name, endpoint=endpoint)
