# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers as the daemon knows them, and where it finds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from brine import keys
from brine.daemon.timers import Timer
from brine.exchange import Initiator
from brine.roster import Address, Endpoint


@dataclass(slots=True, eq=False)
class Attempt:
    """An exchange that we began and that has no end yet."""

    reason: str
    started: int
    initiator: Initiator | None = None  #: of the newest INITIATION
    timer: Timer | None = None  #: the next INITIATION, or giving up
    hastened: bool = False  #: a COOKIE has brought the next INITIATION forward
    tries: int = 0  #: INITIATIONs sent
    endpoint: Endpoint | None = None  #: where the newest went (endpoints.py)
    asked: int = 0  #: and how many before it, it included, in a row
    left: bool = False  #: any of them had an address and a route to leave by
    crossed: bool = False  #: the peer initiated meanwhile, and was not answered


@dataclass(slots=True, eq=False)
class Living:
    """An association in the maps, not yet erased. Times: boot clock, ns."""

    number: int
    local_index: int
    initiated: bool
    created: int
    send_not_after: int
    receive_not_after: int
    confirmed: bool = False
    #: of the INITIATION that we answered, and where that came from
    timestamp: bytes | None = None
    source: Endpoint | None = None
    #: identities that it was made with; None: an earlier run of the daemon did not say
    own: bytes | None = None
    theirs: bytes | None = None
    revoked: bool = False  #: one of them is no longer accepted: it ends as soon as there is another
    proofs: int = 0  #: keepalives asked for so far to have it confirmed
    end: Timer | None = None
    renew: Timer | None = None
    prove: Timer | None = None

    @property
    def sends(self) -> bool:
        """Whether it may be the one that packets are sealed under."""
        return self.confirmed or self.initiated


@dataclass(slots=True, eq=False)
class Peer:
    """`number`: its slot in the maps, `identity`: the one that the slot bears."""

    number: int
    identity: bytes
    name: str
    endpoint: Endpoint | None  #: in use: where its packets go
    roaming: bool
    endpoints: tuple[Endpoint, ...] = ()  #: that the roster names, the preferred one first
    others: tuple[bytes, ...] = ()  #: further identities that it may use (rotation.py)
    used: bytes | None = None  #: that of the newest exchange that it began
    living: list[Living] = field(default_factory=list)
    current: Living | None = None  #: what packets are sealed under
    published: int = 0  #: when that came to be
    attempt: Attempt | None = None
    cookie: tuple[bytes, int] | None = None  #: and until when to use it
    initiated: int = -(1 << 62)  #: when the last INITIATION left
    prompted: int = -(1 << 62)  #: when a stranger's packet last made us initiate
    #: since when packets that we sent, or the peer's, wait for a sign of the other side
    unanswered: int | None = None
    unsent: int | None = None
    ignored: int = 0  #: what was sent before then is no reason to initiate any more

    @property
    def identities(self) -> tuple[bytes, ...]:
        return (self.identity, *self.others)

    @property
    def targets(self) -> tuple[bytes, ...]:
        """Its identities, the one that it uses first, as far as is known."""
        return tuple(sorted(self.identities, key=lambda one: one != self.used))

    @property
    def key_id(self) -> str:
        return keys.key_id(self.identity)

    @property
    def underlay_addresses(self) -> frozenset[Address]:
        """Wherever its packets may come from."""
        used = () if self.endpoint is None else (self.endpoint,)
        return frozenset(endpoint.address for endpoint in (*used, *self.endpoints))

    def pending(self) -> Living | None:
        """The association that waits for the initiator's first packet."""
        return next((one for one in self.living if not one.sends), None)


class PeerTable:
    """Peers by number, identity and underlay address."""

    def __init__(self) -> None:
        self.by_number: dict[int, Peer] = {}
        self.by_identity: dict[bytes, Peer] = {}
        self._by_address: dict[Address, list[Peer]] = {}

    def __len__(self) -> int:
        return len(self.by_number)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self.by_number.values()))

    def add(self, peer: Peer) -> None:
        self.by_number[peer.number] = peer
        self.by_identity.update(dict.fromkeys(peer.identities, peer))
        self._list(peer)

    def remove(self, peer: Peer) -> None:
        del self.by_number[peer.number]
        self._forget(peer)
        self._unlist(peer)

    def rename(self, peer: Peer, identities: tuple[bytes, ...]) -> None:
        """The peer has these identities now, the first of which its slot bears."""
        self._forget(peer)
        peer.identity, peer.others = identities[0], identities[1:]
        self.by_identity.update(dict.fromkeys(identities, peer))

    def _forget(self, peer: Peer) -> None:
        for identity in peer.identities:
            if self.by_identity.get(identity) is peer:
                del self.by_identity[identity]

    def move(
        self, peer: Peer, endpoint: Endpoint | None, endpoints: tuple[Endpoint, ...] | None = None
    ) -> None:
        """The peer is at another endpoint now, or has others."""
        self._unlist(peer)
        peer.endpoint = endpoint
        if endpoints is not None:
            peer.endpoints = endpoints
        self._list(peer)

    def at(self, address: Address) -> list[Peer]:
        """The peers whose packets come from that address, whatever the port."""
        return self._by_address.get(address, [])

    def named(self, name: str) -> Peer | None:
        return next((peer for peer in self.by_number.values() if peer.name == name), None)

    def _list(self, peer: Peer) -> None:
        for address in peer.underlay_addresses:
            self._by_address.setdefault(address, []).append(peer)

    def _unlist(self, peer: Peer) -> None:
        for address in peer.underlay_addresses:
            there = self._by_address[address]
            there.remove(peer)
            if not there:
                del self._by_address[address]
