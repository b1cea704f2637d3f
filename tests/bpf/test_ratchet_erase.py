# SPDX-License-Identifier: GPL-3.0-or-later
"""ERASE of an association that has rotated, and while `open` is at one of its pairs."""

from __future__ import annotations

import pytest

from tests.bpf.installer import everything
from tests.bpf.ratchet import SLOT, Two


def test_erase_leaves_no_secret_of_any_generation(two: Two) -> None:
    side = two.a
    for one in two.sides:
        one.rotate()
        one.derive()
    frames = [one.announce() for one in two.sides]
    for one, frame in zip(two.sides, reversed(frames), strict=True):
        one.take(frame)
    side.derive()
    assert len(side.pairs()) == 4
    secrets = [side.secrets.secret, *side.secrets.header, *side.privates.values()]
    for own, peer in side.pairs():
        for box_ in side.slots(own, peer):
            secrets.append(bytes(box_.subkey))
    assert side.host.erase(SLOT) == "DONE"
    left = everything(side.host)
    for secret in secrets:
        for at in range(0, 32, 8):
            assert secret[at : at + 8] not in left
    assert side.word.instance == 1


@pytest.mark.parametrize("what", ["a claimed pair", "a key being adopted"])
def test_erase_comes_again_for_what_open_holds(two: Two, what: str) -> None:
    side = two.a
    number = side.slot(1, 1, sending=False)
    claimed = side.host.read("boxes", "box", number)
    if what == "a claimed pair":
        claimed.state = side.host.loaded.enum("box_state")["BOX_CLAIMED"]
        side.host.write("boxes", number, claimed)
    else:
        held = side.association
        held.ratchet.flags = side.host.loaded.enum("ratchet_flag")["RATCHET_ADOPTING"]
        side.host.write("associations", SLOT, held)
    for _ in range(2):
        assert side.host.erase(SLOT) == "AGAIN"
        assert side.host.state(SLOT) == "erasing"
        assert bytes(side.association.own[0].private) == side.privates[0]
        assert side.data() is None
        assert side.take(side.forge(0, 0, counter=99)) == "unknown_index"
    if what == "a claimed pair":
        claimed.state = 0
        side.host.write("boxes", number, claimed)
    else:
        held = side.association
        held.ratchet.flags = 0
        side.host.write("associations", SLOT, held)
    assert side.host.erase(SLOT) == "DONE"
    assert side.privates[0] not in everything(side.host)


def test_two_callers_are_told_apart(two: Two) -> None:
    """Were two runs of the program at work at once, one would not share the other's area."""
    area = two.a.host.loaded.map("control_areas")
    held = bytearray(area.lookup(bytes(4)) or b"")
    held[0] = 1
    area.update(bytes(4), bytes(held))
    assert two.a.derive() == "BUSY"
    held[0] = 0
    area.update(bytes(4), bytes(held))
    assert two.a.derive() == "DONE"
