# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts' programs over a link that loses, repeats, reorders and spoils, with rotations,
retirements and new exchanges whenever it comes to mind (Hypothesis)."""

from __future__ import annotations

from typing import Any

import nacl.exceptions
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.bpf.host import Host
from tests.bpf.loaded import Loaded
from tests.bpf.ratchet import MESSAGE, PEER, SLOT, Side, Two

SIDES = st.integers(0, 1)
ACCEPTED = {"ok", "keepalive"}


class Machine(RuleBasedStateMachine):
    """`ratchet.Two` and what is under way between its sides."""

    def __init__(self, *loads: Loaded) -> None:
        super().__init__()
        self.hosts = [Host(load) for load in loads]
        self.two = Two(*self.hosts)
        self.wire: list[tuple[int, bytes]] = []  # (which side gets it, frame)
        self.nonces: set[bytes] = set()
        self.accepted: set[bytes] = set()
        self.serials: dict[tuple[Any, ...], int] = {}
        self.exchange = 0
        self.age = 20.0

    def side(self, which: int) -> Side:
        return self.two.sides[which]

    def sealed(self, which: int, frame: bytes | None) -> bytes:
        """It must be, with a nonce of its own and by the oracle's box."""
        assert frame is not None
        nonce = frame[MESSAGE + 1 : MESSAGE + 16]  # generations, lane, index, counter
        assert nonce not in self.nonces, "a nonce twice"
        self.nonces.add(nonce)
        try:
            self.side(which).opens(frame)
        except nacl.exceptions.CryptoError:
            pytest.fail("not the pair's box")
        return frame

    def given(self, which: int, frame: bytes) -> str:
        reason = self.side(which).take(frame)
        if reason in ACCEPTED:
            assert frame not in self.accepted, "a packet twice"
            self.accepted.add(frame)
        return reason

    @rule(which=SIDES, wait=st.booleans())
    def send(self, which: int, wait: bool) -> None:
        frame = self.sealed(which, self.side(which).data())
        if wait:
            self.wire.append((1 - which, frame))
            return
        # Whatever is going on: what is sealed now, the other side can open now.
        assert self.given(1 - which, frame) == "ok"

    @rule(which=SIDES)
    def announce(self, which: int) -> None:
        side = self.side(which)
        assert side.derive() in {"DONE", "FAILED"}
        self.wire.append((1 - which, self.sealed(which, side.announce())))

    @rule(which=SIDES)
    def rotate(self, which: int) -> None:
        assert self.side(which).rotate() in {"DONE", "NOT_DUE"}

    @rule(which=SIDES)
    def derive(self, which: int) -> None:
        assert self.side(which).derive() == "DONE"

    @rule(which=SIDES)
    def retire(self, which: int) -> None:
        side = self.side(which)
        assert side.retire() in {"DONE", "NOT_DUE"}
        word = side.word
        if "own_previous" not in word.flags:
            assert {own for own, _peer in side.pairs()} <= {word.own}
            assert not any(side.association.own[1 - (word.own & 1)].private)

    @precondition(lambda self: self.age < 250)
    @rule(seconds=st.sampled_from([1, 6, 11, 22]))
    def later(self, seconds: float) -> None:
        self.age += seconds
        self.two.later(seconds)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.wire) - 1))
        which, frame = self.wire[at] if again else self.wire.pop(at)
        self.given(which, frame)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), at=st.integers(MESSAGE, MESSAGE + 71), bit=st.integers(0, 7))
    def spoil(self, data: st.DataObject, at: int, bit: int) -> None:
        """Header, key, header_tag, tag: a bit of any of them."""
        which, frame = data.draw(st.sampled_from(self.wire))
        spoilt = bytearray(frame)
        spoilt[min(at, len(frame) - 1)] ^= 1 << bit
        reason = self.side(which).take(bytes(spoilt))
        # On a known pair the key and the header_tag of DATA_KEYED are not looked at.
        if frame[MESSAGE] == 5 and MESSAGE + 16 <= at < MESSAGE + 56 and reason in ACCEPTED:
            assert frame not in self.accepted
            self.accepted.add(frame)
        else:
            assert reason not in ACCEPTED

    @precondition(lambda self: self.wire)
    @rule()
    def lose(self) -> None:
        self.wire.pop()

    @rule(which=SIDES)
    def draw(self, which: int) -> None:
        """So much data that the daemon makes a key when it next looks."""
        side = self.side(which)
        if side.drawn() < 1 << 36:
            side.draw(1 << 36)
        self.rotate(which)

    @precondition(lambda self: self.exchange < 2)
    @rule(which=SIDES)
    def wear_out(self, which: int) -> None:
        """To the last counter: nothing leaves, and the daemon is asked for an exchange."""
        side = self.side(which)
        side.draw((1 << 40) - 1)
        last = self.sealed(which, side.data())
        assert self.given(1 - which, last) == "ok"
        side.draw(1 << 40)  # on whichever CPU the next one comes
        side.host.stats()
        side.host.events()
        assert side.data() is None
        assert side.host.stats() == {"seal_exhausted": 1}
        assert side.host.events() == [("EVENT_PUNT_SEND", PEER, 0, side.text())]
        self.exchange_anew()

    @precondition(lambda self: self.exchange < 2)
    @rule()
    def exchange_anew(self) -> None:
        self.exchange += 1
        self.two.renew()
        self.age = 20

    @invariant()
    def holds(self) -> None:
        for which, side in enumerate(self.two.sides):
            word = side.word
            pairs = side.pairs()
            assert word.send in pairs
            assert word.send[::-1] in side.other.pairs()
            assert word.send[0] in {word.own, word.own - 1}
            assert word.send[0] <= word.proved
            assert word.send[1] in {word.peer, word.peer - 1}
            assert word.peer <= side.other.word.own
            side.check()
            for own, peer in pairs:
                for sending, box in zip((True, False), side.slots(own, peer), strict=True):
                    key = (self.exchange, which, own, peer, sending)
                    assert self.serials.setdefault(key, box.serial) == box.serial, "made twice"

    def mend(self, which: int) -> None:
        """One side's part of a round."""
        side = self.side(which)
        assert side.derive() == "DONE"
        self.given(1 - which, self.sealed(which, side.announce()))
        self.given(1 - which, self.sealed(which, side.data()))

    def teardown(self) -> None:
        """The link mends: within a few packets both know each other's newest key, and ten
        seconds later nothing else is left."""
        try:
            for _ in range(3):
                for which in range(2):
                    for side in self.two.sides:
                        held = side.association
                        held.derivations = 0
                        side.host.write("associations", SLOT, held)
                    self.mend(which)
            self.holds()
            for side in self.two.sides:
                assert "unproved" not in side.word.flags
                assert side.word.peer == side.other.word.own
                assert side.word.send == (side.word.own, side.word.peer)
            self.two.later(11)
            for side in self.two.sides:
                side.retire()
                assert not side.word.flags
                assert side.pairs() == {side.word.send}
            self.holds()
        finally:
            for host in self.hosts:
                host.close()


def test_two_hosts_and_a_bad_link(loaded: Loaded, loaded_other: Loaded) -> None:
    class Here(Machine):
        def __init__(self) -> None:
            super().__init__(loaded, loaded_other)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
