# SPDX-License-Identifier: GPL-3.0-or-later
"""What maps.py reads and takes: the maps' elements as Python sees them, without secrets."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from typing import Protocol

from brine.errors import BrineError
from brine.keys import Box
from brine.roster import Address, Endpoint

_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96


@dataclass(frozen=True)
class PeerEntry:
    """A slot of `peers`."""

    number: int
    identity: bytes  #: public
    endpoint: Endpoint | None  #: None: not known yet
    roaming: bool


@dataclass(frozen=True)
class RouteValues:
    """What the values of `routes` mean: enum route_value."""

    own: int  #: ROUTE_SELF
    nobody: int  #: ROUTE_NONE
    outside: int  #: ROUTE_OUTSIDE, added to a peer's number

    def peer(self, value: int) -> int | None:
        """The peer's number in `value`, if it is one."""
        if value in (self.own, self.nobody):
            return None
        return value & ~self.outside


@dataclass(frozen=True)
class Ratchet:
    """The generations of an association (bpf/ratchet.h). Times: boot clock, ns."""

    word: int  #: all of the next eight: whether anything moved
    own_current: int  #: our generation made last
    peer_current: int  #: theirs adopted last
    send_own: int  #: the pair that data is sealed on
    send_peer: int
    unproved: bool  #: nothing has come back under own_current
    own_previous: bool  #: the private key of own_current - 1 is held
    peer_previous: bool  #: boxes may still be made with their key before peer_current
    own_unused: bool  #: no DATA has come to own_current
    own_since: int  #: when own_current was made
    peer_since: int  #: when peer_current was adopted
    own_used_at: int  #: when DATA first came to own_current; of the one before if unused
    own_rest_until: int  #: no rotation before
    peer_moved_at: int  #: when DATA under peer_current first came; 0: not yet

    @classmethod
    def first(cls, created: int) -> Ratchet:
        """As INSTALL leaves it."""
        return cls(
            word=0,
            own_current=0,
            peer_current=0,
            send_own=0,
            send_peer=0,
            unproved=False,
            own_previous=False,
            peer_previous=False,
            own_unused=False,
            own_since=created,
            peer_since=created,
            own_used_at=created,
            own_rest_until=0,
            peer_moved_at=created,
        )

    @property
    def settled(self) -> bool:
        """Nothing needs our key before own_current any more: no announcement is due."""
        sending = (self.send_own, self.send_peer)
        return sending == self.newest and not self.unproved and not self.own_unused

    @property
    def newest(self) -> tuple[int, int]:
        """The pair of both newest keys."""
        return self.own_current, self.peer_current


@dataclass(frozen=True)
class Association:
    """A living association without its secrets. Times: boot clock, ns."""

    number: int
    peer: int
    #: "claimed", "erasing", "pending", "unconfirmed" or "confirmed": enum association_state
    state: str
    local_index: int
    remote_index: int
    created: int
    send_not_after: int
    receive_not_after: int
    initiated: bool
    ratchet: Ratchet


@dataclass(frozen=True)
class DeriveEvent:
    """EVENT_DERIVE: a packet needs this pair, which `open` may not derive on this host."""

    peer: int
    association: int
    own_generation: int
    peer_generation: int
    instance: int  #: of the ratchet that the packet met
    key: bytes | None  #: the peer's, public, if it was announced


@dataclass(frozen=True)
class PeerState:
    """What the data path notes of a peer. Times: boot clock, ns, in steps of 0.1 s; 0: never."""

    sending: int | None  #: the association that its packets are sealed under
    last_sent: int
    last_received: int
    last_data_sent: int
    last_data_received: int


@dataclass(frozen=True)
class Traffic:
    """Inner packets and bytes, all CPUs together."""

    sent_packets: int
    sent_bytes: int
    received_packets: int
    received_bytes: int


class Established(Protocol):
    """What an exchange established (exchange.py)."""

    @property
    def peer_identity(self) -> bytes: ...
    @property
    def initiated(self) -> bool: ...
    @property
    def local_index(self) -> int: ...
    @property
    def remote_index(self) -> int: ...
    @property
    def secret(self) -> bytes: ...
    @property
    def send_header_key(self) -> bytes: ...
    @property
    def receive_header_key(self) -> bytes: ...
    @property
    def own_private(self) -> bytes: ...
    @property
    def own_public(self) -> bytes: ...
    @property
    def peer_public(self) -> bytes: ...
    @property
    def send(self) -> Box: ...
    @property
    def receive(self) -> Box: ...


class ControlError(Exception):
    """The `control` program refused."""

    def __init__(self, result: str) -> None:
        super().__init__(f"the control program answered {result}")
        self.result = result  #: of enum control_result, such as CONTROL_INDEX_TAKEN


class StaleMaps(BrineError):
    """Other maps have taken the place of these: close them, open again."""

    def __init__(self) -> None:
        super().__init__("the data path has new maps", "try again")


def boot_ns() -> int:
    """The clock of every time in the maps: CLOCK_BOOTTIME, ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def pack_address(address: Address) -> bytes:
    """struct address: 16 bytes, IPv4 mapped."""
    return _MAPPED + address.packed if address.version == 4 else address.packed


def unpack_address(raw: bytes) -> Address:
    """The inverse of :func:`pack_address`."""
    if raw.startswith(_MAPPED):
        return ipaddress.IPv4Address(raw[12:])
    return ipaddress.IPv6Address(raw)
