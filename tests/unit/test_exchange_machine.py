# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts on a network that loses, repeats, reorders, forges: hypothesis plays it.

Each host decides as a daemon does (newest INITIATION only, timestamps that rise, cookies
under load); everything else is brine.exchange. What must hold at every step is in the
invariants; a forged datagram must be refused and leave both hosts as they were.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from brine import keys, messages
from brine.exchange import Credential, Established, Initiator, Refused, Responder
from brine.layout import Layout
from brine.noise import Handshake
from tests.unit.exchange_pair import PSK, opposite

SIDES = st.integers(0, 1)
ANY = st.one_of(st.integers(0, 20), st.integers(0, 1 << 16))


@dataclass
class Host:
    """One side with the few decisions that brine.exchange leaves to its caller."""

    layout: Layout
    private: bytes
    peer: bytes
    first_index: int
    loaded: bool = False  #: answers with cookies
    clock: int = 0  #: one for all INITIATIONs ever sent
    floor: bytes = bytes(12)  #: newest timestamp answered
    indices: int = 0
    initiator: Initiator | None = None
    cookie: bytes | None = None
    rotating: bytes = field(default_factory=lambda: os.urandom(32))
    established: dict[int, Established] = field(default_factory=dict)  #: by local index

    def __post_init__(self) -> None:
        self.public = keys.public_key(self.private)
        self.responder = Responder(self.layout, [Credential(self.private, PSK)], self.peer.__eq__)

    def index(self) -> int:
        self.indices += 1
        return self.first_index + self.indices

    def initiate(self) -> bytes:
        self.clock += 1
        self.initiator = Initiator(
            self.layout,
            self.private,
            self.peer,
            PSK,
            self.index(),
            self.clock.to_bytes(12, "big"),
            self.cookie,
        )
        return self.initiator.message

    def own_cookie(self) -> bytes:
        """What the peer's source address must return; it has only one here."""
        return keys.cookie(self.rotating, bytes(16), 4747)

    def receive(self, datagram: bytes) -> bytes | None:
        """The answer, if there is one.

        :raises Refused: for what must be without effect.
        """
        kind = self.responder.classify(datagram)
        if kind == messages.INITIATION:
            return self._answer(datagram)
        if self.initiator is None:
            raise Refused("nothing was asked")
        if kind == messages.COOKIE:
            self.cookie = self.initiator.consume_cookie(datagram)
        else:
            made = self.initiator.consume(datagram)
            self.established[made.local_index] = made
            self.initiator = None
        return None

    def _answer(self, datagram: bytes) -> bytes:
        if self.loaded and not self.responder.check_mac2(datagram, self.own_cookie()):
            return self.responder.cookie_reply(datagram, self.own_cookie())
        opened = self.responder.open_initiation(datagram)
        if opened.timestamp <= self.floor:
            raise Refused("not newer than the last")
        response, made = self.responder.respond(opened, self.index())
        self.floor = opened.timestamp
        self.established[made.local_index] = made
        return response

    def state(self) -> tuple[object, ...]:
        """Everything that a refused datagram must not change."""
        return (
            self.floor,
            self.cookie,
            self.indices,
            dict(self.established),
            self.initiator,
            self.initiator and fingerprint(self.initiator._handshake),
        )


def fingerprint(handshake: Handshake | None) -> tuple[object, ...] | None:
    """The whole state of a handshake as values."""
    if handshake is None:
        return None
    symmetric = handshake.symmetric
    return (
        symmetric.hash,
        symmetric.chaining_key,
        symmetric.cipher.key,
        symmetric.cipher.nonce,
        handshake.remote_static,
        handshake.remote_ephemeral,
        repr(handshake._messages),
        len(handshake._psks),
    )


class Network(RuleBasedStateMachine):
    """`wire` holds what is under way as (receiver, datagram); `seen` all that ever was."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        first, second = keys.generate_private(), keys.generate_private()
        self.hosts = (
            Host(layout, first, keys.public_key(second), 1000),
            Host(layout, second, keys.public_key(first), 2000),
        )
        self.wire: list[tuple[int, bytes]] = []
        self.seen: list[tuple[int, bytes]] = []

    def sent(self, which: int) -> tuple[int, bytes]:
        """Counted from the newest, which is what somebody waits for."""
        return self.seen[-1 - which % len(self.seen)]

    def send(self, receiver: int, datagram: bytes) -> None:
        self.wire.append((receiver, datagram))
        self.seen.append((receiver, datagram))

    def deliver(self, receiver: int, datagram: bytes) -> None:
        """A refusal must leave both hosts as they were; an answer goes on the wire."""
        before = [host.state() for host in self.hosts]
        try:
            answer = self.hosts[receiver].receive(datagram)
        except Refused:
            assert [host.state() for host in self.hosts] == before
            return
        if answer is not None:
            self.send(1 - receiver, answer)

    def must_refuse(self, receiver: int, datagram: bytes) -> None:
        before = [host.state() for host in self.hosts]
        try:
            self.hosts[receiver].receive(datagram)
        except Refused:
            assert [host.state() for host in self.hosts] == before
            return
        raise AssertionError("a forged datagram was accepted")

    @rule(side=SIDES)
    def initiate(self, side: int) -> None:
        """At any time, also while the other does, also again: a retry."""
        self.send(1 - side, self.hosts[side].initiate())

    @precondition(lambda self: self.wire)
    @rule(which=ANY)
    def arrive(self, which: int) -> None:
        """Any of those under way: they overtake each other."""
        self.deliver(*self.wire.pop(which % len(self.wire)))

    @precondition(lambda self: self.wire)
    @rule(which=ANY)
    def get_lost(self, which: int) -> None:
        self.wire.pop(which % len(self.wire))

    @precondition(lambda self: self.seen)
    @rule(which=ANY)
    def repeat(self, which: int) -> None:
        """Anything ever sent, however old."""
        self.deliver(*self.sent(which))

    @precondition(lambda self: self.seen)
    @rule(which=ANY)
    def reflect(self, which: int) -> None:
        """To whom it came from."""
        receiver, datagram = self.sent(which)
        self.must_refuse(1 - receiver, datagram)

    @precondition(lambda self: self.seen)
    @rule(which=ANY, place=ANY, bit=st.integers(0, 7))
    def flip(self, which: int, place: int, bit: int) -> None:
        self.flipped(*self.sent(which), place, bit)

    @precondition(lambda self: self.seen)
    @rule(which=ANY, place=ANY, bit=st.integers(0, 7))
    def forge(self, which: int, place: int, bit: int) -> None:
        self.forged(*self.sent(which), place, bit)

    @precondition(lambda self: self.wire)
    @rule(which=ANY, place=ANY, bit=st.integers(0, 7))
    def race(self, which: int, place: int, bit: int) -> None:
        """Just before it arrives come forgeries of it: in every field, with mac1 and without."""
        receiver, datagram = self.wire.pop(which % len(self.wire))
        shape = getattr(self.layout, messages.kind(self.layout, datagram))
        for name, *_ in shape._fields_:
            at = getattr(shape, name).offset + place % getattr(shape, name).size
            self.flipped(receiver, datagram, at, bit)
            self.forged(receiver, datagram, at, bit)
        self.deliver(receiver, datagram)

    def flipped(self, receiver: int, datagram: bytes, place: int, bit: int) -> None:
        # mac2 of an INITIATION authenticates nothing but a source address under load.
        initiation = messages.kind(self.layout, datagram) == messages.INITIATION
        end = self.layout.message_initiation.mac2.offset if initiation else len(datagram)
        forged = bytearray(datagram)
        forged[place % end] ^= 1 << bit
        self.must_refuse(receiver, bytes(forged))

    def forged(self, receiver: int, datagram: bytes, place: int, bit: int) -> None:
        """By one who knows the mesh secret: mac1 fits. Under load that buys a COOKIE."""
        kind = messages.kind(self.layout, datagram)
        if kind == messages.COOKIE:
            return
        before = datagram[: getattr(self.layout, kind).mac1.offset]
        changed = bytearray(before)
        changed[4 + place % (len(before) - 4)] ^= 1 << bit
        key = keys.mac1_key(PSK, self.hosts[receiver].public)
        made = bytes(changed) + keys.mac(key, bytes(changed)) + messages.NO_MAC2
        if kind == messages.INITIATION and self.hosts[receiver].loaded:
            state = [host.state() for host in self.hosts]
            answer = self.hosts[receiver].receive(made)
            assert answer is not None
            assert messages.kind(self.layout, answer) == messages.COOKIE
            assert [host.state() for host in self.hosts] == state
        else:
            self.must_refuse(receiver, made)

    @precondition(lambda self: self.seen)
    @rule(which=ANY, length=ANY)
    def truncate(self, which: int, length: int) -> None:
        receiver, datagram = self.sent(which)
        self.must_refuse(receiver, datagram[: length % len(datagram)])

    @precondition(lambda self: self.seen)
    @rule(which=ANY, more=st.binary(min_size=1, max_size=40))
    def extend(self, which: int, more: bytes) -> None:
        receiver, datagram = self.sent(which)
        self.must_refuse(receiver, datagram + more)

    @precondition(lambda self: self.seen)
    @rule(one=ANY, other=ANY, place=ANY)
    def splice(self, one: int, other: int, place: int) -> None:
        """The beginning of one and the end of another of the same length."""
        receiver, first = self.sent(one)
        second = self.sent(other)[1]
        cut = 1 + place % (len(first) - 1)
        forged = first[:cut] + second[cut:]
        covered = slice(0, self.layout.message_initiation.mac2.offset)
        if len(forged) == len(first) and all(
            forged[covered] != whole[covered] for whole in (first, second)
        ):
            self.must_refuse(receiver, forged)

    @rule(receiver=SIDES, datagram=st.binary(max_size=1500))
    def noise(self, receiver: int, datagram: bytes) -> None:
        self.must_refuse(receiver, datagram)

    @rule(side=SIDES, loaded=st.booleans())
    def load(self, side: int, loaded: bool) -> None:
        self.hosts[side].loaded = loaded

    @rule(side=SIDES)
    def rotate_cookies(self, side: int) -> None:
        self.hosts[side].rotating = os.urandom(32)

    @rule(side=SIDES)
    def calm(self, side: int) -> None:
        """However it went so far: the next exchange on a quiet network succeeds, under
        load at the second try."""
        before = len(self.hosts[side].established)
        for _ in range(2):
            datagram: bytes | None = self.hosts[side].initiate()
            receiver = 1 - side
            while datagram is not None:
                self.seen.append((receiver, datagram))
                datagram = self.hosts[receiver].receive(datagram)
                receiver = 1 - receiver
            if len(self.hosts[side].established) > before:
                return
        raise AssertionError("no association on a quiet network")

    @invariant()
    def ends_are_opposite(self) -> None:
        """What an initiator has, the responder has too, turned round."""
        one, other = self.hosts
        for host, peer in ((one, other), (other, one)):
            for made in host.established.values():
                if made.initiated:
                    assert opposite(made, peer.established[made.remote_index])

    @invariant()
    def nothing_is_shared_between_associations(self) -> None:
        for host in self.hosts:
            made = list(host.established.values())
            for name in ("secret", "send", "receive", "own_private", "send_header_key"):
                assert len({getattr(one, name) for one in made}) == len(made), name

    @invariant()
    def both_would_keep_the_same(self) -> None:
        """Of two that both have: that initiated by the bytewise smaller identity."""
        one, other = self.hosts
        common = [
            made for made in one.established.values() if made.remote_index in other.established
        ]

        def by_the_smaller(made: Established) -> bool:
            return made.initiated == (made.own_identity < made.peer_identity)

        for made in common:
            assert by_the_smaller(made) == by_the_smaller(other.established[made.remote_index])


def test_exchanges_survive_any_network(layout: Layout) -> None:
    class Here(Network):
        def __init__(self) -> None:
            super().__init__(layout)

    run_state_machine_as_test(
        Here, settings=settings(max_examples=40, stateful_step_count=40, deadline=None)
    )
