# SPDX-License-Identifier: GPL-3.0-or-later
"""maps.py and the ratchet, on the programs of two loads: the daemon's calls, with no key of
theirs left in this process."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from brine import libbpf
from brine.maps import ControlError, DeriveEvent, Maps, Ratchet, boot_ns
from tests.bpf.loaded import Loaded
from tests.bpf.ratchet import PEER, SECOND, SLOT, Two


@pytest.fixture
def maps(two: Two, loaded: Loaded, bpffs: Path, tmp_path: Path) -> Iterator[Maps]:
    """A's maps, as its daemon opens them."""
    directory = bpffs / "v2"
    directory.mkdir()
    for name in (
        *("config", "peers", "peer_states", "associations", "boxes", "counters"),
        *("events", "stats"),
    ):
        libbpf.pin(loaded.map(name).fd, str(directory / name))
    libbpf.pin(loaded.program("control").fd, str(directory / "control"))
    assert two.a.host.loaded is loaded
    with Maps.open(directory, tmp_path / "control.lock") as opened:
        yield opened


def ratchet(maps: Maps) -> Ratchet:
    association = maps.association(SLOT)
    assert association is not None
    return association.ratchet


def refused(error: pytest.ExceptionInfo[ControlError]) -> str:
    return error.value.result.removeprefix("CONTROL_")


def test_a_rotation_by_the_daemon(maps: Maps, two: Two) -> None:
    a, b = two.sides
    before = ratchet(maps)
    assert (before.own_current, before.peer_current) == (0, 0)
    assert (before.send_own, before.send_peer) == (0, 0)
    assert [before.unproved, before.own_previous, before.peer_previous] == [False] * 3
    private = os.urandom(32)
    start = boot_ns()
    maps.rotate(SLOT, 1, private)
    a.privates[1] = private
    now = ratchet(maps)
    assert (now.own_current, now.send_own) == (1, 0)
    assert now.unproved
    assert now.own_previous
    assert start <= now.own_since <= boot_ns()
    assert now.word != before.word
    maps.derive(SLOT)
    maps.derive(SLOT)
    a.check()
    assert b.take(a.announce()) == "keepalive"
    assert a.take(b.data()) == "ok"
    now = ratchet(maps)
    assert not now.unproved
    assert start <= now.own_used_at <= boot_ns()
    assert not maps.retire(SLOT)
    two.later(11)
    assert maps.retire(SLOT)
    now = ratchet(maps)
    assert not now.own_previous
    assert now.own_rest_until > boot_ns()
    assert not maps.retire(SLOT)
    with pytest.raises(ControlError) as error:
        maps.rotate(SLOT, 2, os.urandom(32))
    assert refused(error) == "NOT_DUE"


def test_the_peer_s_rotation_as_the_daemon_sees_it(maps: Maps, two: Two) -> None:
    a, b = two.sides
    assert ratchet(maps).peer_moved_at > 0
    b.rotate()
    b.derive()
    start = boot_ns()
    assert a.take(b.announce()) == "keepalive"
    now = ratchet(maps)
    assert (now.peer_current, now.send_peer, now.peer_previous) == (1, 1, True)
    assert start <= now.peer_since <= boot_ns()
    assert now.peer_moved_at == 0
    assert b.take(a.keepalive()) == "keepalive"
    assert a.take(b.data()) == "ok"
    moved = ratchet(maps).peer_moved_at
    assert start <= moved + 256
    assert moved <= boot_ns()


def test_a_daemon_has_control_derive_for_open(maps: Maps, two: Two) -> None:
    a, b = two.sides
    a.set_punt()
    b.rotate()
    b.derive()
    frame = b.announce()
    a.host.events()
    assert a.take(frame) == "punt_pair"
    ((kind, peer, association, data),) = a.host.events()
    kinds = a.host.loaded.enum("event_kind")
    event = maps.derive_event(struct.pack("<4I", kinds[kind], peer, association, len(data)) + data)
    assert event == DeriveEvent(PEER, SLOT, 0, 1, a.word.instance, b.public(1))
    maps.derive_pair(event)
    maps.derive_pair(event)
    a.check()
    assert a.take(frame) == "keepalive"
    maps.rotate(SLOT, 1, private := os.urandom(32))
    a.privates[1] = private
    maps.derive_pair(DeriveEvent(PEER, SLOT, 1, 1, a.word.instance, None))
    a.check()
    assert a.state(1, 1) == "published"


@pytest.mark.parametrize(
    ("own", "peer", "key", "result"),
    [
        (1, 0, None, "ILLEGAL"),
        (0, 2, b"\5" * 32, "ILLEGAL"),
        (0, 1, bytes(31) + b"\1", "ILLEGAL"),
        (0, 1, bytes(32), "FAILED"),
    ],
)
def test_pairs_that_cannot_be(
    maps: Maps, two: Two, own: int, peer: int, key: bytes | None, result: str
) -> None:
    if result == "ILLEGAL" and (own, peer) == (0, 1):
        two.a.later(-5)  # an adoption less than ten seconds ago
        held = two.a.association
        held.peer_since[0] = boot_ns()
        two.a.host.write("associations", SLOT, held)
    with pytest.raises(ControlError) as error:
        maps.derive_pair(DeriveEvent(PEER, SLOT, own, peer, two.a.word.instance, key))
    assert refused(error) == result
    assert two.a.pairs() == {(0, 0)}


def test_the_busiest_lane_of_a_pair(maps: Maps, two: Two) -> None:
    a = two.a

    def pretend(own: int, peer: int, lane: int, drawn: int) -> None:
        key = SLOT * 4 + own * 2 + peer
        counters = a.host.read("counters", "counters", key)
        counters.lane[lane].next = drawn
        a.host.write("counters", key, counters)

    assert maps.drawn(SLOT, 0, 0) == a.drawn() == 1  # of the exchange
    pretend(0, 0, 7, 1 << 36)
    pretend(0, 0, 15, 5)
    assert maps.drawn(SLOT, 0, 0) == maps.drawn(SLOT, 2, 4) == a.drawn() == 1 << 36
    a.rotate()
    two.announced(a)
    assert maps.drawn(SLOT, 1, 0) == a.drawn() == 1  # the announcement
    pretend(0, 1, 3, 7)
    pretend(1, 1, 3, 9)
    assert [maps.drawn(SLOT, own, peer) for own in (0, 1) for peer in (0, 1)] == [1 << 36, 7, 1, 9]


def test_erase_has_patience(maps: Maps, two: Two) -> None:
    """But not without end, should a pair stay claimed."""
    a = two.a
    number = a.slot(1, 1, sending=False)
    box = a.host.read("boxes", "box", number)
    box.state = a.host.loaded.enum("box_state")["BOX_CLAIMED"]
    a.host.write("boxes", number, box)
    with pytest.raises(ControlError) as error:
        maps.erase(SLOT)
    assert refused(error) == "AGAIN"
    association = maps.association(SLOT)
    assert association is not None
    assert association.state == "erasing"
    box.state = 0
    a.host.write("boxes", number, box)
    maps.erase(SLOT)
    assert maps.association(SLOT) is None


def test_no_secret_is_returned(maps: Maps, two: Two) -> None:
    shown = repr(maps.association(SLOT))
    assert str(SECOND * 3900) not in shown
    for side in two.sides:
        assert repr(side.privates[0]) not in shown
        assert side.privates[0].hex() not in shown
