# SPDX-License-Identifier: GPL-3.0-or-later
"""Each step of making a pair with another CPU's work inside it: races.bpf.c."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bpf.host import Host
from tests.bpf.installer import everything
from tests.bpf.loaded import Loaded, build, load
from tests.bpf.ratchet import SLOT, Side, Two

ZERO = bytes(4)
PLACES = ["PAIR_FOUND", "PAIR_CLAIMED", "PAIR_COPIED"]


@pytest.fixture(scope="module")
def racing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    made = load(build(tmp_path_factory.mktemp("races"), "../tests/bpf/races.bpf.c"))
    yield made
    made.close()


@pytest.fixture
def raced(racing: Loaded, loaded_other: Loaded) -> Iterator[Two]:
    """Of the two sides, A can be raced."""
    hosts = Host(racing), Host(loaded_other)
    yield Two(*hosts)
    racing.map("race").update(ZERO, bytes(racing.map("race").value_size))
    for host in hosts:
        host.close()


def arm(side: Side, place: str, action: str, word: int = 0) -> None:
    race = side.host.loaded.struct("race")()
    race.place = side.host.loaded.enum("race_place")[f"RACE_{place}"]
    race.action = side.host.loaded.enum("race_action")[f"RACE_{action}"]
    race.word = word
    side.host.loaded.map("race").update(ZERO, bytes(race))


def happened(side: Side) -> str:
    """It must have, once; what `control` answered, where it was asked."""
    value = side.host.loaded.map("race").lookup(ZERO) or b""
    race = side.host.loaded.struct("race").from_buffer_copy(value)
    assert race.done == 1
    side.host.loaded.map("race").update(ZERO, bytes(len(value)))
    names = {number: name for name, number in side.host.loaded.enum("control_result").items()}
    return names[race.result].removeprefix("CONTROL_")


def word(side: Side) -> int:
    return int.from_bytes(bytes(side.association.ratchet), "little")


def retirable(two: Two) -> tuple[Side, Side]:
    """A's key 0 is due to go, and the pair (0, 1) is legal yet but not made."""
    a, b = two.sides
    assert b.rotate() == "DONE"
    two.later(11)
    a.rotate()
    assert a.derive() == "DONE"
    assert b.take(a.announce()) == "keepalive"
    assert a.take(b.keepalive()) == "keepalive"
    assert (a.word.own, a.word.peer, a.word.send) == (1, 0, (1, 0))
    two.later(11)
    return a, b


@pytest.mark.parametrize("place", PLACES)
def test_a_pair_of_a_key_being_retired(raced: Two, place: str) -> None:
    """RETIRE moves the word, then looks at the slots; the claimer claims, then looks at the
    word: one of them sees the other."""
    a, b = retirable(raced)
    arm(a, place, "RETIRE")
    reason = a.take(a.forge(0, 1, keyed=True))
    result = happened(a)
    assert reason == "race"
    assert a.state(0, 1) == "none"
    if place == "PAIR_FOUND":
        assert result == "DONE"
    else:
        assert result == "AGAIN"
        assert a.retire() == "DONE"
    assert a.privates[0] not in everything(a.host)
    assert not any(a.association.own[0].private)
    a.check()
    assert b.take(a.data()) == "ok"


@pytest.mark.parametrize("place", PLACES)
def test_a_pair_of_an_association_being_erased(raced: Two, place: str) -> None:
    a = raced.a
    raced.b.rotate()
    arm(a, place, "ERASE")
    assert a.take(a.forge(0, 1, keyed=True)) == "race"
    assert happened(a) == ("DONE" if place == "PAIR_FOUND" else "AGAIN")
    assert a.host.erase(SLOT) == "DONE"
    left = everything(a.host)
    for secret in (a.privates[0], a.secrets.secret, *a.secrets.header):
        assert secret not in left
    a.check()


@pytest.mark.parametrize("place", PLACES)
def test_a_pair_of_the_number_s_last_tenant(raced: Two, place: str) -> None:
    """All as before but the instance: erased, and installed anew."""
    a = raced.a
    raced.b.rotate()
    arm(a, place, "RATCHET", word(a) + (1 << 48))
    assert a.take(a.forge(0, 1, keyed=True)) == "race"
    happened(a)
    assert a.pairs() == {(0, 0)}
    a.check()


@pytest.mark.parametrize("place", PLACES)
def test_a_pair_of_their_key_before_which_goes(raced: Two, place: str) -> None:
    """Another CPU begins to adopt: the key that is being copied is written over."""
    a, b = raced.sides
    b.rotate()
    b.derive()
    assert a.take(b.announce()) == "keepalive"  # adopted: 1; 0 is still good
    assert a.rotate() == "DONE"
    flags = a.host.loaded.enum("ratchet_flag")
    moved = word(a) & ~(flags["RATCHET_PEER_PREVIOUS"] << 32) | flags["RATCHET_ADOPTING"] << 32
    arm(a, place, "RATCHET", moved)
    assert a.take(a.forge(1, 0)) == "race"
    happened(a)
    assert a.state(1, 0) == "none"


@pytest.mark.parametrize("place", PLACES)
def test_a_pair_that_stays_legal_is_made(raced: Two, place: str) -> None:
    """The ratchet moves, but this pair's keys stay: proved meanwhile."""
    a, b = raced.sides
    a.rotate()
    a.derive()
    b.take(a.announce())
    b.rotate()
    flags = a.host.loaded.enum("ratchet_flag")
    arm(a, place, "RATCHET", word(a) & ~(flags["RATCHET_UNPROVED"] << 32))
    assert a.take(a.forge(0, 1, keyed=True)) == "keepalive"
    happened(a)
    assert a.state(0, 1) == "published"
    assert a.word.proved == 1
    a.check()


@pytest.mark.parametrize("place", ["SEAL_ALIVE", "SEAL_COPIED", "SEAL_COUNTED"])
def test_a_box_retired_under_a_packet_seals_nothing(raced: Two, place: str) -> None:
    """`seal` has chosen the pair, and then sleeps until all of it is gone."""
    a, b = raced.sides
    a.rotate()
    raced.announced(a)
    raced.later(11)
    moved = word(a)
    held = a.association
    held.ratchet.send_own = 0  # not moved yet
    a.host.write("associations", SLOT, held)
    assert a.data() is not None
    a.host.stats()
    arm(a, place, "LEAVE_AND_RETIRE", moved)
    assert a.data() is None
    assert happened(a) == "DONE"
    (reason,) = a.host.stats()
    assert reason in {"seal_no_box", "seal_expired"}  # a wiped box's time is over
    assert a.state(0, 0) == "none"
    assert b.take(a.data()) == "ok"


@pytest.mark.parametrize("place", ["OPEN_ALIVE", "OPEN_COPIED", "OPEN_VERIFIED", "OPEN_MARKED"])
def test_a_box_retired_under_a_packet_opens_nothing(raced: Two, place: str) -> None:
    """Nor does what it says of the ratchet count: a wiped key would be adopted."""
    a, b = raced.sides
    a.rotate()
    raced.announced(a)
    raced.later(11)
    frame = a.forge(0, 0, counter=77)
    arm(a, place, "RETIRE")
    assert a.take(frame) in {"no_box", "expired", "forged"}
    assert happened(a) == "DONE"
    assert a.word.peer == 0
    assert b.take(a.data()) == "ok"
