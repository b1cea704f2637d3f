# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model of the ratchet demands (docs/protocol.md), each demand with what happens
to those who leave it out. Interleavings of two CPUs are in test_ratchet_races.py."""

from __future__ import annotations

from tests.bpf.installer import image
from tests.bpf.ratchet import SLOT, Two, generations


def adopted(two: Two) -> None:
    """A has rotated, B adopted; nothing has come back."""
    two.a.rotate()
    two.a.derive()
    assert two.b.take(two.a.announce()) == "keepalive"


def test_data_goes_out_on_the_proved_key(two: Two) -> None:
    """Not on the newest: after crossing rotations the other side cannot open that."""
    a, b = two.sides
    for side in two.sides:
        side.rotate()
        side.derive()
    assert b.take(a.announce()) == "keepalive"  # B's announcement is lost
    frame = b.data()
    assert frame is not None
    assert generations(frame) == (4, 0, 1)
    assert a.take(frame) == "ok"
    assert b.word.proved == 0


def test_the_crossed_pair_must_be_asked_for(two: Two) -> None:
    """Nothing travels on it, so no packet would ever make it: DERIVE does."""
    for side in two.sides:
        side.rotate()
        side.derive()
    frames = [side.announce() for side in two.sides]
    for side, frame in zip(two.sides, reversed(frames), strict=True):
        assert side.take(frame) == "keepalive"
    for _ in range(3):
        for side in two.sides:
            assert side.other.take(side.data()) == "ok"
    assert [side.word.send for side in two.sides] == [(0, 1), (0, 1)]
    assert all(side.retire() == "NOT_DUE" for side in two.sides)
    assert two.a.derive() == "DONE"
    assert two.b.take(two.a.announce()) == "keepalive"
    assert two.a.take(two.b.data()) == "ok"
    assert [side.word.send for side in two.sides] == [(1, 1), (1, 1)]


def crossed(two: Two) -> None:
    """Both have rotated, both keys are proved, and nobody has made the pair of both."""
    for side in two.sides:
        side.rotate()
        side.derive()
    frames = [side.announce() for side in two.sides]
    for side, frame in zip(two.sides, reversed(frames), strict=True):
        assert side.take(frame) == "keepalive"
    for side in two.sides:
        assert side.other.take(side.data()) == "ok"


def test_data_does_not_go_out_on_a_pair_that_the_other_is_making(two: Two) -> None:
    """What comes before that has it is lost. Both daemons derive the crossed pair at about
    the same time: A has it, B's is in the midst of it."""
    a, b = two.sides
    crossed(two)
    assert a.derive() == "DONE"
    number = b.slot(1, 1, sending=False)
    held = b.host.read("boxes", "box", number)
    held.state = b.host.loaded.enum("box_state")["BOX_CLAIMED"]
    held.sender_generation = held.receiver_generation = 1
    b.host.write("boxes", number, held)
    assert b.take(a.announce()) == "no_box"  # to be repeated
    assert b.take(a.data()) == "ok"
    held.state = 0
    b.host.write("boxes", number, held)
    assert b.derive() == "DONE"
    assert a.take(b.announce()) == "keepalive"
    assert a.word.send == (1, 1)
    assert b.take(a.data()) == "ok"
    assert b.word.send == (1, 1)


def test_the_key_before_stays_until_the_other_s_data_has_left_it(two: Two) -> None:
    """An announcement to the newest proves it, while data still goes to the one before: B's
    does here, since A's announcements came in the wrong order."""
    a, b = two.sides
    for side in two.sides:
        side.rotate()
        side.derive()
    late = a.announce()
    assert a.take(b.announce()) == "keepalive"
    assert b.take(a.data()) == "ok"
    assert b.word.send == (1, 0)
    assert b.take(late) == "keepalive"
    assert b.word.send == (1, 0)
    assert b.derive() == "DONE"
    assert a.take(b.announce()) == "keepalive"
    assert a.word.send == (1, 1)
    assert a.word.flags == {"own_unused", "own_previous", "peer_previous"}
    two.later(60)
    assert a.retire() == "NOT_DUE"
    assert a.take(b.data()) == "ok"
    # What A announces until then moves B's data.
    frame = a.announce()
    assert frame is not None
    assert generations(frame) == (5, 1, 1)
    assert b.take(frame) == "keepalive"
    assert b.word.send == (1, 1)
    assert a.take(b.data()) == "ok"
    assert a.retire() == "NOT_DUE"
    two.later(11)
    assert a.retire() == "DONE"
    assert a.word.flags == frozenset()
    assert b.take(a.data()) == "ok"


def test_no_rotation_before_the_key_before_is_gone(two: Two) -> None:
    """Its slots are the new one's."""
    a, b = two.sides
    a.rotate()
    two.announced(a)
    two.later(100)
    assert "unproved" not in a.word.flags
    assert a.rotate() == "NOT_DUE"
    assert a.pairs() == {(0, 0), (1, 0)}
    assert b.take(a.data()) == "ok"
    assert a.retire() == "DONE"
    assert a.rotate() == "NOT_DUE"
    two.later(10)
    assert a.rotate() == "DONE"


def test_the_key_before_stays_until_data_has_left_it(two: Two) -> None:
    """However long ago the newest was proved."""
    a, b = two.sides
    a.rotate()
    # B adopts by its own means, and its answer proves a key of which A has no pair yet.
    assert b.take(b.forge(0, 1, keyed=True)) == "keepalive"
    answer = b.keepalive()
    number = a.slot(1, 0, sending=False)
    held = a.host.read("boxes", "box", number)
    assert a.take(answer) == "keepalive"
    assert "unproved" not in a.word.flags
    assert a.word.send == (1, 0)
    # As it stands between proof and follow, or while another CPU makes the pair.
    association = a.association
    association.ratchet.send_own = 0
    a.host.write("associations", SLOT, association)
    two.later(100)
    assert a.retire() == "NOT_DUE"
    assert a.data() is not None
    assert bytes(a.association.own[0].private) == a.privates[0]
    assert held.state == 0


def test_their_key_before_stays_until_they_have_left_it(two: Two) -> None:
    """By DATA: an announcement does not say it."""
    a, b = two.sides
    adopted(two)
    late = a.data()
    two.later(60)
    assert b.take(a.announce()) == "keepalive"
    assert b.retire() == "NOT_DUE"
    assert b.take(late) == "ok"
    assert a.take(b.data()) == "ok"
    # Now A sends under 1, and ten seconds later B lets 0 go.
    assert b.take(a.data()) == "ok"
    assert b.retire() == "NOT_DUE"
    two.later(10)
    assert b.retire() == "DONE"


def test_a_pair_of_their_key_before_is_made_once(two: Two) -> None:
    """Wiped, it would still be legal, but for a flag that was cleared before: a late packet
    would have it made again, with counters from zero."""
    a, b = two.sides
    late, again = a.data(), a.data()
    adopted(two)
    assert b.take(late) == "ok"
    assert a.take(b.data()) == "ok"
    assert b.take(a.data()) == "ok"
    two.later(10)
    assert b.retire() == "DONE"
    serial = b.slots(0, 0)[1].serial
    for frame in (late, again):
        assert b.take(frame) == "no_box"
    assert b.slots(0, 0)[1].serial == serial


def test_a_legal_pair_of_their_key_before_is_made_late(two: Two) -> None:
    """Until they have left it: A's data under 0 to the key that B has just made."""
    a, b = two.sides
    assert b.rotate() == "DONE"
    adopted(two)
    frame = b.forge(1, 0, text=a.text())
    assert (1, 0) not in b.pairs()
    assert b.take(frame) == "ok"
    assert (1, 0) in b.pairs()
    b.check()


def test_the_adopted_key_is_the_box_s(two: Two) -> None:
    """Who spoils an announcement makes its box provisional; of the whole copy that follows,
    header_tag and key are looked at no more, so it can bring any key."""
    a, b = two.sides
    a.rotate()
    a.derive()
    frame = a.announce()
    assert frame is not None
    spoilt = frame[:-1] + bytes([frame[-1] ^ 1])
    assert b.take(spoilt) == "forged"
    assert b.state(0, 1) == "published"
    assert b.word.peer == 0
    at = 14 + 28 + 16
    altered = frame[:at] + b"\x66" * 32 + frame[at + 32 :]
    assert b.take(altered) == "keepalive"
    assert b.word.peer == 1
    assert bytes(b.association.peer_public[1]) == a.public(1)
    for name in ("associations", "boxes"):
        assert b"\x66" * 32 not in b"".join(image(b.host)[name])
    assert a.take(b.data()) == "ok"
    b.rotate()
    assert b.derive() == "DONE"
    b.check()


def test_a_forged_packet_proves_and_adopts_nothing(two: Two) -> None:
    a, b = two.sides
    adopted(two)
    frame = b.data()
    assert frame is not None
    before = a.association.ratchet
    assert a.take(frame[:-1] + bytes([frame[-1] ^ 1])) == "forged"
    assert bytes(a.association.ratchet) == bytes(before)


def test_data_under_a_key_not_adopted_is_refused(two: Two) -> None:
    """Even where its box is there: it is provisional."""
    a, b = two.sides
    a.rotate()
    frame = b.forge(0, 1, keyed=True)
    assert b.take(frame[:-1] + bytes([frame[-1] ^ 1])) == "forged"
    assert b.state(0, 1) == "published"
    assert b.take(b.forge(0, 1, counter=1, text=a.text())) == "no_box"
    assert b.word.peer == 0
    assert b.take(frame) == "keepalive"
    assert b.take(b.forge(0, 1, counter=2, text=a.text())) == "ok"


def test_a_provisional_pair_yields_to_nothing(two: Two) -> None:
    """Of all keys that A could announce as its next, the first is the only one."""
    b = two.b
    two.a.rotate()
    spoilt = b.forge(0, 1, keyed=True)
    assert b.take(spoilt[:-1] + bytes([spoilt[-1] ^ 1])) == "forged"
    serial = b.slots(0, 1)[1].serial
    other = b.forge(0, 1, keyed=True, key=b"\x42" * 32, counter=1)
    assert b.take(other) == "keepalive"  # the box decides, not the key that came along
    assert b.slots(0, 1)[1].serial == serial
    assert bytes(b.association.peer_public[1]) == two.a.public(1)


def test_the_pair_two_before_yields_to_the_next(two: Two) -> None:
    """B has not let go of A's key 0 when A announces 2: its slot is taken over, once."""
    a, b = two.sides
    adopted(two)
    assert a.take(b.data()) == "ok"
    assert b.take(a.data()) == "ok"
    two.later(11)
    assert a.retire() == "DONE"
    two.later(11)
    assert a.rotate() == "DONE"
    assert a.derive() == "DONE"
    assert b.pairs() == {(0, 0), (0, 1)}
    assert b.take(a.announce()) == "keepalive"
    assert b.pairs() == {(0, 2), (0, 1)}
    assert b.word.peer == 2
    b.check()
    assert a.take(b.data()) == "ok"
