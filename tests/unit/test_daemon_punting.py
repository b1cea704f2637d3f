# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairs that `open` leaves to the daemon."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from brine.daemon.journal import ERROR, Log
from brine.daemon.ratchet import Ratchets
from brine.daemon.timers import SECOND
from brine.layout import Layout
from brine.records import Association, ControlError, DeriveEvent
from tests.unit.simulated import Host, World, pair

KEY = b"\5" * 32


@dataclass
class Path:
    """A host's maps, and what was asked of them."""

    host: Host
    calls: list[str] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)  #: by operation

    def association(self, number: int) -> Association | None:
        return self.host.maps.association(number)

    def _call(self, operation: str, shown: object = "") -> None:
        self.calls.append(f"{operation} {shown}".strip())
        if operation in self.refuses:
            raise ControlError(f"CONTROL_{self.refuses[operation]}")

    def drawn(self, number: int, own: int, peer: int) -> int:
        return 0

    def rotate(self, number: int, generation: int, private: bytes) -> None:
        assert len(private) == 32
        self._call("rotate", generation)

    def derive(self, number: int) -> None:
        self._call("derive")

    def derive_pair(self, asked: DeriveEvent) -> None:
        self._call("derive_pair", (asked.own_generation, asked.peer_generation))

    def retire(self, number: int) -> bool:
        self._call("retire")
        return False

    def keepalive(self, peer: int, *, announce: bool = False) -> bool:
        self.calls.append("announce" if announce else "answer")
        return True


@dataclass
class Scene:
    world: World
    host: Host
    path: Path
    ratchets: Ratchets
    other: Host

    @property
    def number(self) -> int:
        (association,) = self.host.maps.associations()
        return association.number

    def asked(self, own: int = 0, peer: int = 1, key: bytes | None = KEY) -> None:
        known = self.host.peer(self.other)
        self.ratchets.asked(known, DeriveEvent(known.number, self.number, own, peer, 0, key))

    def called(self) -> list[str]:
        calls = self.path.calls.copy()
        self.path.calls.clear()
        return calls


@pytest.fixture
def scene(layout: Layout) -> Scene:
    """A host with a confirmed association."""
    world, one, two = pair(layout)
    one.exchanges.initiate(one.peer(two), "test")
    world.run(1)
    path = Path(one)
    ratchets = Ratchets(
        path, one.table, one.timers, one.associations, one.exchanges, path.keepalive, Log(ERROR, {})
    )
    return Scene(world, one, path, ratchets, two)


def test_a_pair_that_open_asks_for_is_made_by_control(scene: Scene) -> None:
    scene.asked()
    scene.asked(1, 1, None)
    assert scene.called() == ["derive_pair (0, 1)", "derive_pair (1, 1)"]


@pytest.mark.parametrize("result", ["ILLEGAL", "AGAIN", "FAILED", "NO_ASSOCIATION"])
def test_what_cannot_be_made_is_left(scene: Scene, result: str) -> None:
    """And no exchange begun: whoever announces such a key would have us do so at will."""
    scene.path.refuses["derive_pair"] = result
    scene.asked()
    assert scene.called() == ["derive_pair (0, 1)"]
    assert scene.host.peer(scene.other).attempt is None


def test_a_refusal_that_should_not_be_is_not_passed_over(scene: Scene) -> None:
    scene.path.refuses["derive_pair"] = "BAD_REQUEST"
    with pytest.raises(ControlError):
        scene.asked()


def test_pairs_are_made_at_a_bounded_rate(scene: Scene) -> None:
    """Whatever is in the ring: 128 at once, 100 a second."""
    for _ in range(1000):
        scene.asked()
    assert len(scene.called()) == 128
    scene.world.now += SECOND
    for _ in range(1000):
        scene.asked()
    assert len(scene.called()) == 100
