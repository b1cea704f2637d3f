# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of identities means for the associations that live.

While an identity is being rotated (rotation.py) this host accepts two of its own, and two of each
peer that rotates. Nothing is cut off before something else is in its place:

    this host uses another identity     a new exchange with every peer that it has associations
                                        with; the former ones go on until that is confirmed
    one is no longer accepted, ours     the same for associations made with it, and at the latest
    or a peer's                         30 s later they are erased
    none of the former is accepted,     all are erased at once
    or the mesh secret is another
"""

from __future__ import annotations

from typing import Any

from brine import keys
from brine.daemon import state
from brine.daemon.associations import Associations
from brine.daemon.exchanges import Exchanges
from brine.daemon.peers import Living, Peer, PeerTable
from brine.daemon.settings import Members
from brine.daemon.timers import SECOND, Timers
from brine.exchange import Credential
from brine.roster import Endpoint

REST = 2 * SECOND
STAGGER = SECOND // 200  #: between exchanges that a change of ours begins


class Identities:
    """Those of this host, and those of its peers as far as associations depend on them.

    :param credentials: of this host, the one in use first.
    """

    def __init__(
        self,
        credentials: tuple[Credential, ...],
        members: Members,
        table: PeerTable,
        timers: Timers,
        associations: Associations,
        exchanges: Exchanges,
    ) -> None:
        self.credentials = credentials
        self.members = members
        self._table = table
        self._timers = timers
        self._associations = associations
        self._exchanges = exchanges
        exchanges.use(*credentials)

    @property
    def own(self) -> bytes:
        """The identity in use."""
        return self.credentials[0].public

    @property
    def own_endpoints(self) -> tuple[Endpoint, ...]:
        """Where the roster says that this host may be reached."""
        return self.members.endpoints(self.own)

    def fingerprints(self) -> frozenset[str]:
        """Of all credentials, for the state on disk."""
        return frozenset(state.credentials(one.public, one.psk) for one in self.credentials)

    def made_with(self) -> dict[int, tuple[bytes, bytes]]:
        """Index of an association → the identities that it was made with, where known."""
        return {
            living.local_index: (living.own, living.theirs)
            for peer in self._table
            for living in peer.living
            if living.own is not None and living.theirs is not None
        }

    def report(self) -> dict[str, Any]:
        """For operators: key ids."""
        return {
            "accepted": [keys.key_id(one.public) for one in self.credentials],
            "made_with": {
                str(index): [keys.key_id(one) for one in both]
                for index, both in self.made_with().items()
            },
        }

    def change(self, credentials: tuple[Credential, ...], members: Members) -> bool:
        """Go by these from now on. Whether ours are others than before. :meth:`settle` must
        follow, once the peers have been read anew."""
        self.members = members
        if credentials == self.credentials:
            return False
        going_on = set(self.credentials) & set(credentials)
        if not going_on:
            for peer in self._table:
                self._exchanges.leave(peer)
            self._associations.erase_all(self._table, "identity or mesh secret changed")
        elif credentials[0] != self.credentials[0]:
            for peer in self._table:
                self._exchanges.abandon(peer)  # it would come to an association of the former
        self.credentials = credentials
        self._exchanges.use(*credentials)
        return True

    def name(self, peer: Peer, identity: bytes) -> None:
        """Follow what the peer's slot and the roster say of it."""
        peer.name = self.members.name(identity)
        identities = self.members.identities(identity)
        if peer.identities != identities:
            self._table.rename(peer, identities)

    def adopt(self, former: frozenset[str]) -> None:
        """Tell what adopted associations were made with where the daemon was killed before it
        had noted it: where there is only one identity on either side, it was that. Elsewhere
        it stays unknown, and :meth:`settle` has them replaced.

        :param former: fingerprints of the credentials that the daemon had then.
        """
        if len(self.credentials) > 1 or former != self.fingerprints():
            return
        for peer in self._table:
            for living in peer.living:
                if living.own is None and not peer.others:
                    living.own, living.theirs = self.own, peer.identity

    def settle(self) -> None:
        """See to what was made with identities of before."""
        accepted = {one.public for one in self.credentials}
        wait = 0
        for peer in self._table:
            for living in list(peer.living):
                if living.own not in accepted or living.theirs not in peer.identities:
                    self._associations.let_go(peer, living)
            if peer.current is not None and self._outdated(peer.current):
                self._timers.after(wait, lambda peer=peer: self.look(peer))  # type: ignore[misc]
                wait += STAGGER

    def look(self, peer: Peer) -> None:
        """Exchange anew if what is in use was made with another identity than ours."""
        if (
            peer.current is not None
            and self._outdated(peer.current)
            and self._table.by_number.get(peer.number) is peer
        ):
            # What is revoked ends soon: no time for an endpoint that may be dark.
            self._exchanges.initiate(peer, "identity", at_ease=not peer.current.revoked)

    def look_later(self, peer: Peer) -> None:
        """An association has been confirmed. Whether the peer turned to the identity that we
        use matters only once it has come to rest."""
        if peer.current is not None and self._outdated(peer.current):
            self._timers.after(REST, lambda: self.look(peer))

    def _outdated(self, living: Living) -> bool:
        return living.revoked or living.own != self.own
