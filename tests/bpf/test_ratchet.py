# SPDX-License-Identifier: GPL-3.0-or-later
"""The ratchet between two hosts' programs: what rotations do, step by step."""

from __future__ import annotations

import pytest

from tests.bpf.ratchet import SLOT, Two, Word, generations

NONE: frozenset[str] = frozenset()


def flags(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_a_rotation_from_start_to_end(two: Two) -> None:
    a, b = two.sides
    assert a.word == b.word == Word(0, 0, (0, 0), NONE, 0)
    # A makes a key. Its data stays where it was.
    assert a.rotate() == "DONE"
    assert a.word == Word(1, 0, (0, 0), flags("unproved", "own_unused", "own_previous"), 0)
    assert a.pairs() == {(0, 0)}
    assert a.derive() == "DONE"
    assert a.pairs() == {(0, 0), (1, 0)}
    assert a.word.send == (0, 0)
    frame = a.data()
    assert frame is not None
    assert generations(frame) == (4, 0, 0)
    assert b.take(frame) == "ok"
    # It announces it: B derives, opens, adopts and moves its data there.
    frame = a.announce()
    assert frame is not None
    assert generations(frame) == (5, 1, 0)
    assert a.opens(frame) == b""
    assert b.take(frame) == "keepalive"
    assert b.word == Word(0, 1, (0, 1), flags("peer_previous"), 0)
    assert b.pairs() == {(0, 0), (0, 1)}
    assert b.host.events() == [("EVENT_RATCHET", 1, SLOT, b"")]
    assert bytes(b.association.peer_public[1]) == a.public(1)
    # B's answer proves it; A's data moves.
    frame = b.data()
    assert frame is not None
    assert generations(frame) == (4, 0, 1)
    assert a.take(frame) == "ok"
    assert a.word == Word(1, 0, (1, 0), flags("own_previous"), 0)
    assert a.host.events() == [("EVENT_RATCHET", 1, SLOT, b"")]
    assert b.association.peer_moved & 0xFF == 0
    assert b.take(a.data()) == "ok"
    assert b.association.peer_moved & 0xFF == 1
    for side in two.sides:
        side.check()
        assert side.retire() == "NOT_DUE"
    # Ten seconds later nothing is left of generation 0 of A.
    two.later(11)
    for side in two.sides:
        assert side.retire() == "DONE"
        assert side.retire() == "NOT_DUE"
        side.check()
    assert a.word == Word(1, 0, (1, 0), NONE, 0)
    assert b.word == Word(0, 1, (0, 1), NONE, 0)
    assert a.pairs() == {(1, 0)}
    assert b.pairs() == {(0, 1)}


def test_many_rotations_in_turn(two: Two) -> None:
    for turn in range(7):
        two.rotated(two.sides[turn % 2])
        for side in two.sides:
            side.check()
            assert side.pairs() == {(side.word.own, side.word.peer)}
    assert (two.a.word.own, two.b.word.own) == (4, 3)


def test_crossing_rotations(two: Two) -> None:
    """Both announcements under way at once, and the pair of both new keys."""
    a, b = two.sides
    for side in two.sides:
        assert side.rotate() == "DONE"
        assert side.derive() == "DONE"
    frames = a.announce(), b.announce()
    assert b.take(frames[0]) == "keepalive"
    assert a.take(frames[1]) == "keepalive"
    for side in two.sides:
        # Adopted, but nothing has come back under the own: data must not go out on it.
        assert side.word == Word(
            1, 1, (0, 1), flags("unproved", "own_unused", "own_previous", "peer_previous"), 0
        )
    for side in two.sides:
        frame = side.data()
        assert frame is not None
        assert generations(frame) == (4, 0, 1)
        assert side.other.take(frame) == "ok"
    for side in two.sides:
        assert side.word.own == side.word.proved
        side.check()
    # (1, 1) exists nowhere yet, and no packet asks for it. Who has it does not know whether
    # the other has: data waits for a packet on it, which an announcement is.
    assert (1, 1) not in a.pairs() | b.pairs()
    for side in two.sides:
        assert side.word.send == (0, 1)
        assert side.derive() == "DONE"
        assert side.word.send == (0, 1)
    frames = a.announce(), b.announce()
    for side, frame in zip(two.sides, reversed(frames), strict=True):
        assert frame is not None
        assert generations(frame) == (5, 1, 1)
        assert side.take(frame) == "keepalive"
        assert side.word.send == (1, 1)
    assert b.take(a.data()) == "ok"
    assert a.take(b.data()) == "ok"
    two.later(11)
    for side in two.sides:
        assert side.retire() == "DONE"
        assert side.pairs() == {(1, 1)}
        assert side.word == Word(1, 1, (1, 1), NONE, 0)


def test_one_side_derives_the_crossed_pair_and_the_other_s_data_moves_first(two: Two) -> None:
    """The other's kernel makes it on the announcement."""
    for side in two.sides:
        assert side.rotate() == "DONE"
        assert side.derive() == "DONE"
    frames = [side.announce() for side in two.sides]
    for side, frame in zip(two.sides, reversed(frames), strict=True):
        assert side.take(frame) == "keepalive"
    for side in two.sides:
        assert side.other.take(side.data()) == "ok"
    a, b = two.sides
    assert a.derive() == "DONE"
    assert b.take(a.data()) == "ok"
    assert a.word.send == b.word.send == (0, 1)
    assert b.take(a.announce()) == "keepalive"
    assert (a.word.send, b.word.send) == ((0, 1), (1, 1))
    assert a.take(b.data()) == "ok"
    assert a.word.send == (1, 1)
    for side in two.sides:
        assert side.other.take(side.data()) == "ok"


def test_announcements_are_repeated_until_proved(two: Two) -> None:
    a, b = two.sides
    a.rotate()
    a.derive()
    lost = [a.announce() for _ in range(3)]
    late = lost[2]
    assert b.take(a.announce()) == "keepalive"
    assert b.take(late) == "keepalive"  # reordered: its own counter
    assert b.take(late) == "replay"
    assert a.announce() is not None
    b.keepalive()  # the answer is lost
    assert "unproved" in a.word.flags
    assert a.take(b.keepalive()) == "keepalive"
    # Proved: what was asked for as an announcement is a keepalive on the sending pair.
    frame = a.announce()
    assert frame is not None
    assert generations(frame) == (4, 1, 0)
    assert len(frame) == 14 + 60
    assert b.take(frame) == "keepalive"


def test_an_announcement_may_carry_data(two: Two) -> None:
    a, b = two.sides
    a.rotate()
    frame = b.forge(0, 1, keyed=True, text=a.text())
    assert b.take(frame) == "ok"
    assert b.word.peer == 1


@pytest.mark.parametrize("outer", [4, 6])
def test_an_announcement_on_the_wire(two: Two, outer: int) -> None:
    a = two.a
    if outer == 6:
        a.host.configure(None, "2001:db8::1")
        a.host.peer(1, ("2001:db8::2", 4747))
    a.rotate()
    a.derive()
    frame = a.announce()
    assert frame is not None
    at = {4: 28, 6: 48}[outer]
    assert len(frame) == 14 + at + 72
    length = int.from_bytes(frame[14 + at - 4 : 14 + at - 2], "big")
    assert length == 8 + 72
    if outer == 4:
        assert int.from_bytes(frame[16:18], "big") == 20 + length
    else:
        assert int.from_bytes(frame[18:20], "big") == length
    moved = frame[:14] + bytes(28 - at if at < 28 else 0) + frame[14 + at - 28 :]
    assert a.opens(moved) == b""


def test_an_announcement_needs_its_box(two: Two) -> None:
    two.a.rotate()
    two.a.host.stats()
    assert two.a.announce() is None
    assert two.a.host.stats() == {"seal_no_box": 1}
    assert two.a.host.events() == []


def test_no_private_key_leaves_with_an_announcement(two: Two) -> None:
    a = two.a
    a.rotate()
    a.derive()
    frame = a.announce()
    assert frame is not None
    for left in (frame, a.host.value("seal_areas", 0), a.host.value("control_areas", 0)):
        assert a.privates[1] not in left
        assert a.secrets.header[0] not in left


def test_generations_end_at_255(two: Two) -> None:
    """They never wrap: by then there is a new exchange, or nothing."""
    a, b = two.sides
    held = a.association
    held.ratchet.own_current = held.ratchet.send_own = 255
    a.host.write("associations", SLOT, held)
    a.later(0)
    for generation in (0, 255):
        assert a.rotate(generation) == "NOT_DUE"
    held = b.association
    held.ratchet.peer_current = held.ratchet.send_peer = 255
    b.host.write("associations", SLOT, held)
    b.other.privates[0] = a.privates[0]
    before = b.association.ratchet
    assert b.take(b.forge(0, 0, keyed=True, counter=9)) in {"no_box", "keepalive"}
    assert bytes(b.association.ratchet) == bytes(before)
