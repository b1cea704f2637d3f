# SPDX-License-Identifier: GPL-3.0-or-later
"""ROTATE, DERIVE, DERIVE_PAIR and RETIRE by table: what they refuse, and what is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from brine import keys as library
from tests.bpf.installer import everything, image
from tests.bpf.ratchet import SLOT, Side, Two, Word

Change = Callable[[Side, Any], None]
NONE: frozenset[str] = frozenset()


def changed(side: Side, change: Change) -> None:
    """`change` gets struct association, which is then written."""
    held = side.association
    change(side, held)
    side.host.write("associations", SLOT, held)


def flag(name: str) -> Change:
    def change(side: Side, held: Any) -> None:
        held.ratchet.flags |= side.host.loaded.enum("ratchet_flag")[f"RATCHET_{name}"]

    return change


def state(name: str) -> Change:
    def change(side: Side, held: Any) -> None:
        held.state = side.host.loaded.enum("association_state")[f"ASSOCIATION_{name}"]

    return change


def box(own: int, peer: int, *, sending: bool, name: str) -> Change:
    """A box of the parity of generation 1 that is not empty."""

    def change(side: Side, _held: Any) -> None:
        number = side.slot(own, peer, sending=sending)
        raw = side.host.read("boxes", "box", number)
        raw.state = side.host.loaded.enum("box_state")[f"BOX_{name}"]
        side.host.write("boxes", number, raw)

    return change


def fresh(_side: Side, held: Any) -> None:
    held.own_since[0] += 15 * 10**9


def resting(_side: Side, held: Any) -> None:
    held.own_rest_until = held.own_since[0] + 3600 * 10**9


def lagging_own(_side: Side, held: Any) -> None:
    held.ratchet.own_current = held.ratchet.send_own = 3
    held.ratchet.send_own = 2


def lagging_peer(_side: Side, held: Any) -> None:
    held.ratchet.peer_current = 1


# ROTATE


@pytest.mark.parametrize(
    ("change", "generation"),
    [
        pytest.param(flag("UNPROVED"), 1, id="unproved"),
        pytest.param(flag("OWN_UNUSED"), 1, id="proved by announcements only"),
        pytest.param(flag("OWN_PREVIOUS"), 1, id="the one before is still held"),
        pytest.param(fresh, 1, id="made just now"),
        pytest.param(resting, 1, id="at rest"),
        pytest.param(lagging_own, 4, id="data not on our newest"),
        pytest.param(lagging_peer, 1, id="data not on their newest"),
        pytest.param(state("PENDING"), 1, id="pending"),
        pytest.param(state("UNCONFIRMED"), 1, id="unconfirmed"),
        pytest.param(state("CLAIMED"), 1, id="at work"),
        pytest.param(state("ERASING"), 1, id="being erased"),
        pytest.param(lambda *_: None, 0, id="the same generation"),
        pytest.param(lambda *_: None, 2, id="one too far"),
        pytest.param(lambda *_: None, 255, id="far too far"),
        *[
            pytest.param(box(1, peer, sending=sending, name=name), 1, id=f"{name} {peer} {sending}")
            for peer in (0, 1)
            for sending in (True, False)
            for name in ("CLAIMED", "PUBLISHED", "FAILED")
        ],
    ],
)
def test_rotation_is_not_due(two: Two, change: Change, generation: int) -> None:
    side = two.a
    changed(side, change)
    before = image(side.host)
    assert side.rotate(generation) == "NOT_DUE"
    assert image(side.host) == before


def test_rotation_wants_a_key(two: Two) -> None:
    side = two.a
    for private, public in ((bytes(32), b"\1" * 32), (b"\1" * 32, bytes(32))):
        request = side.host.request("CONTROL_ROTATE", SLOT)
        request.own_generation = 1
        request.own_private[:], request.own_public[:] = private, public
        assert side.host.control(request) == "BAD_REQUEST"
    assert side.word.own == 0


def test_rotation_writes_the_key_and_no_box(two: Two) -> None:
    side = two.a
    before = image(side.host)
    private = os.urandom(32)
    assert side.rotate(private=private) == "DONE"
    held = side.association
    assert bytes(held.own[1].private) == private
    assert bytes(held.own[1].public) == library.public_key(private)
    assert bytes(held.own[0].private) == side.privates[0]
    assert held.own_since[1] > held.own_since[0]
    after = image(side.host)
    for name in ("boxes", "counters", "windows", "indices", "peer_states"):
        assert after[name] == before[name]


def test_the_shortest_time_between_rotations(two: Two) -> None:
    """Proof, ten seconds until the key before is retired, ten seconds of rest."""
    a, b = two.sides
    assert a.rotate() == "DONE"
    two.announced(a)
    assert b.take(a.data()) == "ok"
    for wait, rotate, retire in ((9, "NOT_DUE", "NOT_DUE"), (2, "NOT_DUE", "DONE")):
        two.later(wait)
        assert a.rotate() == rotate
        assert a.retire() == retire
    two.later(9)
    assert a.rotate() == "NOT_DUE"
    two.later(2)
    assert a.rotate() == "DONE"


# DERIVE


def test_derive_makes_what_is_missing_once(two: Two) -> None:
    side = two.a
    before = image(side.host)
    assert side.derive() == "DONE"
    assert image(side.host) == before
    side.rotate()
    assert side.derive() == "DONE"
    side.check()
    serials = [item.serial for item in side.slots(1, 0)]
    assert side.derive() == "DONE"
    assert [item.serial for item in side.slots(1, 0)] == serials
    assert side.association.derivations == 0  # not of the budget


@pytest.mark.parametrize(("name", "result"), [("CLAIMED", "AGAIN"), ("FAILED", "FAILED")])
def test_derive_finds_somebody_at_it(two: Two, name: str, result: str) -> None:
    side = two.a
    side.rotate()
    changed(side, box(1, 0, sending=False, name=name))
    before = image(side.host)
    assert side.derive() == result
    assert image(side.host) == before


@pytest.mark.parametrize("operation", ["DERIVE", "DERIVE_PAIR", "RETIRE"])
@pytest.mark.parametrize("name", ["FREE", "CLAIMED", "ERASING"])
def test_nothing_is_done_to_one_out_of_use(two: Two, operation: str, name: str) -> None:
    side = two.a
    changed(side, state(name))
    before = image(side.host)
    assert side.run(operation) == "NO_ASSOCIATION"
    assert image(side.host) == before


@pytest.mark.parametrize("number", [12, 2**29 + SLOT, 2**32 - 1])
def test_no_operation_reaches_out_of_range(two: Two, number: int) -> None:
    side = two.a
    before = image(side.host)
    for operation in ("ROTATE", "DERIVE", "DERIVE_PAIR", "RETIRE"):
        request = side.host.request(f"CONTROL_{operation}", number)
        for name in ("own_private", "own_public", "peer_public"):
            getattr(request, name)[:] = os.urandom(32)
        assert side.host.control(request) == "BAD_REQUEST"
    assert image(side.host) == before


# DERIVE_PAIR


def test_a_pair_is_made_as_open_would_make_it(two: Two) -> None:
    a, b = two.sides
    a.rotate()
    assert a.derive_pair(1, 0) == "DONE"
    a.check()
    frame = a.announce()
    assert b.derive_pair(0, 1, keyed=True) == "DONE"
    b.check()
    assert b.pairs() == {(0, 0), (0, 1)}
    assert b.association.derivations == 0  # not of the budget: `open` took that
    assert b.word.peer == 0  # provisional, until a packet opens
    assert b.take(frame) == "keepalive"
    assert b.word.peer == 1
    assert bytes(b.association.peer_public[1]) == a.public(1)


def test_a_pair_that_is_there_is_not_made_again(two: Two) -> None:
    before = image(two.a.host)
    assert two.a.derive_pair(0, 0) == "DONE"
    assert image(two.a.host) == before
    two.b.rotate()
    assert two.a.derive_pair(0, 1, keyed=True) == "DONE"
    before = image(two.a.host)
    assert two.a.derive_pair(0, 1, keyed=True, key=b"\5" * 32) == "DONE"
    assert image(two.a.host) == before


@pytest.mark.parametrize(
    ("own", "peer", "keyed"),
    [
        pytest.param(2, 0, False, id="a key we do not have"),
        pytest.param(0, 1, False, id="theirs, not announced"),
        pytest.param(0, 2, True, id="theirs, one too far"),
        pytest.param(1, 255, True, id="theirs, far too far"),
    ],
)
def test_an_illegal_pair_is_not_made(two: Two, own: int, peer: int, keyed: bool) -> None:
    side = two.a
    side.rotate()
    before = image(side.host)
    assert side.derive_pair(own, peer, keyed=keyed, key=b"\5" * 32) == "ILLEGAL"
    assert image(side.host) == before


def test_what_was_asked_of_another_association_is_not_made(two: Two) -> None:
    """The number has another tenant since: the key of that event is not its peer's."""
    side = two.a
    stale = side.word.instance
    two.renew()
    before = image(side.host)
    for own, peer in ((0, 1), (0, 0)):
        assert side.derive_pair(own, peer, keyed=True, key=b"\5" * 32, instance=stale) == "ILLEGAL"
    assert image(side.host) == before


def test_an_adopted_key_is_the_association_s(two: Two) -> None:
    """Whatever key comes with the request by then."""
    a, b = two.sides
    a.rotate()
    a.derive()
    assert b.take(a.announce()) == "keepalive"
    b.rotate()
    assert b.derive_pair(1, 1, keyed=True, key=b"\5" * 32) == "DONE"
    b.check()


@pytest.mark.parametrize("key", [bytes(32), None], ids=["zeros", "our own"])
def test_an_announced_key_that_makes_no_box(two: Two, key: bytes | None) -> None:
    side = two.b
    two.a.rotate()
    bad = key or side.public(0)
    assert side.derive_pair(0, 1, keyed=True, key=bad) == "FAILED"
    assert side.state(0, 1) == "failed"
    before = image(side.host)
    assert side.derive_pair(0, 1, keyed=True, key=bad) == "FAILED"
    assert image(side.host) == before
    assert two.a.take(side.data()) == "ok"


def test_a_request_that_cannot_be_is_refused(two: Two) -> None:
    side = two.a
    side.rotate()
    request = side.host.request("CONTROL_DERIVE_PAIR", SLOT)
    request.own_generation, request.keyed = 1, 2
    assert side.host.control(request) == "BAD_REQUEST"
    assert side.state(1, 0) == "none"


# RETIRE


def test_what_retire_leaves(two: Two) -> None:
    """No byte of the key before, nor of any box it made, in any map."""
    a, b = two.sides
    a.rotate()
    two.announced(a)
    secrets = [a.privates[0]]
    for side, pair in ((a, (0, 0)), (b, (0, 0))):
        for sending in (True, False):
            made = side.box(*pair, sending=sending)
            secrets.append(library.subkey(library.Box(made.key, made.nonce)))
    assert b.take(a.data()) == "ok"
    for side in two.sides:
        assert any(secret in everything(side.host) for secret in secrets)
    two.later(11)
    for side in two.sides:
        assert side.retire() == "DONE"
        left = everything(side.host)
        for secret in secrets:
            for at in range(0, 32, 8):
                assert secret[at : at + 8] not in left
        assert side.state(0, 0) == "none"
    assert a.word == Word(1, 0, (1, 0), NONE, 0)
    assert a.association.own_rest_until > a.association.own_since[1]


def test_retire_comes_again_for_a_pair_that_open_holds(two: Two) -> None:
    """First the word, then the boxes, then the key: and the key stays until all are gone."""
    a = two.a
    a.rotate()
    two.announced(a)
    two.later(11)
    held = a.host.read("boxes", "box", a.slot(0, 1, sending=False))
    held.state = a.host.loaded.enum("box_state")["BOX_CLAIMED"]
    held.sender_generation, held.receiver_generation = 1, 0
    a.host.write("boxes", a.slot(0, 1, sending=False), held)
    for _ in range(2):
        assert a.retire() == "AGAIN"
        assert "own_previous" not in a.word.flags
        assert bytes(a.association.own[0].private) == a.privates[0]
    assert a.rotate() == "NOT_DUE"
    held.state = 0
    a.host.write("boxes", a.slot(0, 1, sending=False), held)
    assert a.retire() == "DONE"
    assert not any(a.association.own[0].private)


def test_an_expired_pair_is_wiped_and_not_made_again(two: Two) -> None:
    """Were it made again, its counters would restart under the same key."""
    side = two.b
    two.a.rotate()
    two.a.derive()
    assert side.take(two.a.announce()) == "keepalive"
    changed(side, lambda _s, held: setattr(held.ratchet, "send_peer", 0))
    number = side.slot(0, 1, sending=False)
    held = side.host.read("boxes", "box", number)
    assert side.retire() == "NOT_DUE"
    held.not_after = side.association.own_since[0] - 10 * 10**9
    side.host.write("boxes", number, held)
    assert side.retire() == "DONE"
    assert side.state(0, 1) == "failed"
    assert side.derive() == "FAILED"
    assert side.take(side.forge(0, 1)) == "no_box"
    side.check()


def test_a_failed_pair_goes_with_its_key(two: Two) -> None:
    a, b = two.sides
    a.rotate()
    assert b.take(b.forge(0, 1, keyed=True, key=bytes(32))) == "bad_key"
    assert b.retire() == "NOT_DUE"
    assert b.state(0, 1) == "failed"
    b.rotate()
    two.announced(b)
    two.later(11)
    assert b.retire() == "DONE"
    assert b.state(0, 1) == "none"
