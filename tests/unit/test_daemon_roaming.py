# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that roams, and those that it roams among, for hours of simulated time."""

from __future__ import annotations

import itertools

from brine.daemon.roaming import AT_ONCE, CONNECT, DEAD, KEEPALIVE
from brine.daemon.timers import SECOND
from brine.layout import Layout
from tests.unit.simulated import Data, Host, World, packet

HOUR = 3600
TO_ROVER, TO_HOME = 1, 2


def roving(layout: Layout) -> tuple[World, Host, Host]:
    """`home`, and a host that roams; home runs, the other not yet."""
    world = World()
    home = Host(world, layout, "home", "192.0.2.1")
    rover = Host(world, layout, "rover", "198.51.100.7")
    rover.roams = True
    home.knows(TO_ROVER, rover, roaming=True)
    rover.knows(TO_HOME, home)
    home.start()
    return world, home, rover


def reached(world: World, home: Host, rover: Host) -> bool:
    """Whether what home sends unasked arrives."""
    text = packet(TO_ROVER, str(world.now).encode())
    home.send(rover, text)
    world.run(1)
    return text in rover.received


def test_within_reach_before_it_sends_anything(layout: Layout) -> None:
    world, home, rover = roving(layout)
    rover.start()
    world.run(2)
    assert reached(world, home, rover)


def test_stays_within_reach_through_hours_of_silence(layout: Layout) -> None:
    world, home, rover = roving(layout)
    left: list[int] = []

    def note(sender: Host, _receiver: Host, _message: Data | bytes) -> bool:
        if sender is rover:
            left.append(world.now)
        return True

    world.passes = note
    rover.start()
    for _ in range(3):
        world.run(HOUR)
        assert reached(world, home, rover)
    assert rover.sent("initiation") + home.sent("initiation") <= 5  # once, and one an hour
    # what a translator sees of it: never silent for long, and no storm
    gaps = [later - earlier for earlier, later in itertools.pairwise(left)]
    assert max(gaps) <= KEEPALIVE + SECOND
    assert len(left) < 3 * HOUR / 10


def test_is_back_soon_after_home_lost_everything(layout: Layout) -> None:
    world, home, rover = roving(layout)
    rover.start()
    world.run(600)
    home.reboot()
    home.start()
    assert not reached(world, home, rover)
    world.run((DEAD + CONNECT) // SECOND)
    assert reached(world, home, rover)


def test_is_back_soon_after_home_was_away_for_hours(layout: Layout) -> None:
    world, home, rover = roving(layout)
    rover.start()
    world.run(5)
    home.reboot()
    before = len(rover.messages)
    world.run(3 * HOUR)
    assert len(rover.messages) - before <= 3 * HOUR / 5  # no more than one exchange asks
    home.start()
    world.run(90 + CONNECT // SECOND)
    assert reached(world, home, rover)


def test_reaches_many_one_after_the_other(layout: Layout) -> None:
    world = World()
    rover = Host(world, layout, "rover", "198.51.100.7")
    rover.roams = True
    homes = [Host(world, layout, f"home{number}", f"192.0.2.{number}") for number in range(1, 25)]
    for number, home in enumerate(homes, 2):
        home.knows(TO_ROVER, rover, roaming=True)
        rover.knows(number, home)
        home.start()
    rover.start()
    world.run(0.1)
    assert rover.sent("initiation") == AT_ONCE
    world.run(5)
    assert rover.sent("initiation") == len(homes)
    assert all(reached(world, home, rover) for home in homes)
