# SPDX-License-Identifier: GPL-3.0-or-later
"""From former maps to those in use, on a clock that jumps: who is exchanged with, and when what
is left of the former association goes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Set
from pathlib import Path

import pytest

from brine.daemon.handover import Handover
from brine.daemon.journal import ERROR, INFO, Log
from brine.daemon.liveness import TICK
from brine.daemon.settings import Members
from brine.daemon.timers import SECOND
from brine.layout import Layout
from brine.locking import locked
from brine.roster import Entry
from tests.unit.simulated import Data, Host, World

LIFE = 360 * SECOND


class FormerMaps:
    """Associations with these peers, as brine.former.Former has them."""

    def __init__(self, until: int, peers: list[Host]) -> None:
        self.until = until
        self.held = {number: peer.credential.public for number, peer in enumerate(peers)}

    def erase(self, identity: bytes) -> None:
        self.held = {number: one for number, one in self.held.items() if one != identity}

    def erase_all(self) -> None:
        self.held.clear()


class AllFormerMaps:
    """As brine.former.Formers."""

    def __init__(self, *given: FormerMaps) -> None:
        self.all = list(given)
        self.given = given
        self.taken: Path | None = None
        self.refuse: OSError | None = None

    def identities(self) -> Set[bytes]:
        return {identity for one in self.all for identity in one.held.values()}

    def erase(self, identity: bytes) -> None:
        for one in self.all:
            one.erase(identity)

    def take_away(self, in_use: Path) -> None:
        assert self.taken is None
        self.taken = in_use
        self.all.clear()
        if self.refuse is not None:
            raise self.refuse


class InUse:
    """As brine.maps.Maps."""

    directory = Path("/in/use")

    def __init__(self) -> None:
        self.is_stale = False

    def stale(self) -> bool:
        return self.is_stale


class Upgraded:
    """`one`, whose maps are new, and its peers."""

    def __init__(self, layout: Layout, directory: Path, peers: int) -> None:
        self.world = World()
        self.layout = layout
        self.one = Host(self.world, layout, "one", "192.0.2.1")
        self.peers = [
            Host(self.world, layout, f"peer{number}", f"198.51.{number // 200}.{number % 200 + 1}")
            for number in range(peers)
        ]
        for number, peer in enumerate(self.peers):
            self.one.knows(number, peer)
            peer.knows(0, self.one)
            peer.start()
        self.in_use = InUse()
        self.lock = directory / "apply.lock"
        self.left = FormerMaps(self.world.now + LIFE, self.peers)
        self.formers = AllFormerMaps(self.left)
        self.log_level = ERROR

    def start(self) -> Handover:
        self.one.start()
        handover = Handover(
            self.formers, self.in_use, self.lock, self.one.table, self.one.timers,
            self.one.exchanges, Log(self.log_level, {}),
        )  # fmt: skip

        def tick() -> None:
            handover.tick()
            self.one.timers.after(TICK, tick)

        tick()
        return handover

    def confirmed(self) -> int:
        return sum(peer.current is not None and peer.current.confirmed for peer in self.one.table)


def test_everybody_is_exchanged_with_at_a_bounded_rate(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 20)
    upgraded.start()
    upgraded.world.run(0.1)
    assert upgraded.confirmed() == 8
    upgraded.world.run(3)
    assert upgraded.confirmed() == 20
    assert len(upgraded.left.held) == 20  # what is under way shall arrive
    upgraded.world.run(10)
    assert not upgraded.left.held
    assert upgraded.formers.taken == upgraded.in_use.directory
    upgraded.world.run(60)
    assert len([one for one in upgraded.one.messages if one[0] == "initiation"]) == 20


def test_each_is_erased_by_itself(layout: Layout, tmp_path: Path) -> None:
    """One that does not answer keeps its own, until the last key has ended."""
    upgraded = Upgraded(layout, tmp_path, 3)
    silent = upgraded.peers[1]
    upgraded.world.passes = lambda _source, to, what: to is not silent or isinstance(what, Data)
    upgraded.start()
    upgraded.world.run(15)
    assert list(upgraded.left.held.values()) == [silent.credential.public]
    upgraded.world.run(330)
    assert list(upgraded.left.held.values()) == [silent.credential.public]
    assert upgraded.formers.taken is None
    upgraded.world.run(20)
    assert not upgraded.left.held
    assert upgraded.formers.taken is not None
    # It was asked all the time: each attempt gives up after 90 s.
    asked = [when for kind, when in upgraded.one.messages if kind == "initiation"]
    assert max(b - a for a, b in itertools.pairwise(asked)) <= 15 * SECOND


def test_who_answers_late_is_handed_over(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 1)
    upgraded.world.passes = lambda *_: False
    upgraded.start()
    upgraded.world.run(200)
    assert upgraded.left.held
    upgraded.world.passes = lambda *_: True
    upgraded.world.run(20)
    assert upgraded.confirmed() == 1
    assert not upgraded.left.held


def test_a_killed_daemon_begins_again(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 2)
    silent = upgraded.peers[1]
    upgraded.world.passes = lambda _source, to, _what: to is not silent
    upgraded.start()
    upgraded.world.run(5)
    upgraded.one.kill()
    assert len(upgraded.left.held) == 2
    upgraded.world.passes = lambda *_: True
    upgraded.start()
    upgraded.world.run(20)
    assert upgraded.confirmed() == 2
    assert upgraded.formers.taken is not None


def test_a_peer_that_is_gone_is_erased_at_once(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 2)
    upgraded.world.passes = lambda *_: False
    upgraded.start()
    gone = upgraded.one.table.by_number[0]
    upgraded.one.exchanges.leave(gone)
    upgraded.one.table.remove(gone)
    upgraded.world.run(1)
    assert list(upgraded.left.held.values()) == [upgraded.peers[1].credential.public]


def test_a_peer_that_loses_an_identity_is_erased_at_once(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 2)
    upgraded.world.passes = lambda *_: False
    handover = upgraded.start()
    first, second = (peer.credential.public for peer in upgraded.peers)
    entry = Entry("peer0", first, (), (), (), False, next_public_key=bytes(range(32)))
    both = Members({first: entry, bytes(range(32)): entry})
    handover.follow(both, both)
    assert set(upgraded.left.held.values()) == {first, second}
    handover.follow(both, Members({first: dataclasses.replace(entry, next_public_key=None)}))
    assert set(upgraded.left.held.values()) == {second}


def test_ended_it_ends_at_once(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 3)
    upgraded.world.passes = lambda *_: False
    handover = upgraded.start()
    handover.end("a test")
    assert not upgraded.left.held
    assert upgraded.formers.taken is not None
    handover.end("again")
    upgraded.world.run(5)


def test_of_several_each_has_its_time(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 1)
    older = FormerMaps(upgraded.world.now + 50 * SECOND, upgraded.peers)
    upgraded.formers = AllFormerMaps(older, upgraded.left)
    upgraded.world.passes = lambda *_: False
    upgraded.start()
    upgraded.world.run(49)
    assert older.held
    upgraded.world.run(2)
    assert not older.held
    assert upgraded.left.held
    assert upgraded.formers.taken is None  # the newer hands on through both
    upgraded.world.run(310)
    assert upgraded.formers.taken is not None


def test_nothing_is_taken_from_under_an_apply(layout: Layout, tmp_path: Path) -> None:
    upgraded = Upgraded(layout, tmp_path, 1)
    upgraded.start()
    with locked(upgraded.lock):
        upgraded.world.run(30)
        assert not upgraded.left.held
        assert upgraded.formers.taken is None
    upgraded.in_use.is_stale = True  # by then others are in use, which may still hand on
    upgraded.world.run(5)
    assert upgraded.formers.taken is None
    upgraded.in_use.is_stale = False
    upgraded.world.run(1)
    assert upgraded.formers.taken is not None


def test_pins_that_cannot_be_removed_are_no_harm(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upgraded = Upgraded(layout, tmp_path, 1)
    upgraded.log_level = INFO
    upgraded.formers.refuse = OSError(30, "Read-only file system")
    upgraded.start()
    upgraded.world.run(60)
    assert upgraded.confirmed() == 1
    assert not upgraded.left.held
    said = capsys.readouterr().err
    assert "former maps not removed" in said
    assert "former maps removed" not in said
