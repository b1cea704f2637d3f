# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchanges over a network that loses, delays, reorders and repeats, between daemons that are
killed and hosts that reboot: whatever happened, once it is over the mesh works again."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from brine.daemon.associations import PER_PEER
from brine.daemon.timers import SECOND
from brine.layout import Layout
from tests.unit.simulated import DELAY, Host, World, packet

ACTIONS = ("send", "send", "send", "rotate", "kill", "start", "reboot", "wait")


def mesh(layout: Layout, count: int) -> tuple[World, list[Host]]:
    world = World()
    hosts = [Host(world, layout, f"host{n}", f"192.0.2.{n}") for n in range(1, count + 1)]
    for host in hosts:
        for number, other in enumerate(hosts):
            if other is not host:
                host.knows(number, other)
        host.start()
    return world, hosts


def bounded(hosts: list[Host]) -> None:
    for host in hosts:
        for number, _peer, _roaming in host.peer_list:
            of_peer = [a for a in host.maps.associations() if a.peer == number]
            assert len(of_peer) <= PER_PEER
            indices = [a.local_index for a in host.maps.associations()]
            assert len(indices) == len(set(indices))


def storm(
    world: World,
    hosts: list[Host],
    chance: random.Random,
    steps: int,
    actions: tuple[str, ...] = ACTIONS,
) -> None:
    """So many random actions while the network misbehaves."""
    loss = chance.choice((0.0, 0.1, 0.5))
    slow = chance.choice((DELAY, SECOND // 4, 3 * SECOND))
    world.passes = lambda *_: chance.random() >= loss
    world.delays = lambda: [
        chance.randrange(DELAY // 2, slow + DELAY)
        for _ in range(2 if chance.random() < 0.05 else 1)
    ]
    serial = 0
    for _ in range(steps):
        host = chance.choice(hosts)
        number, other, _roaming = chance.choice(host.peer_list)
        match chance.choice(actions):
            case "send":
                serial += 1
                host.send(other, packet(number, serial.to_bytes(4, "big")))
            case "rotate" if host.running:
                host.exchanges.initiate(host.peer(other), "asked for")
            case "kill" if host.running:
                host.kill()
            case "start" if not host.running:
                host.start()
            case "reboot":
                host.reboot()
                host.start()
        world.run(chance.choice((0, 0.0005, 0.001, 0.01, 0.5, 5, 40)))
        bounded(hosts)


def calm(world: World, hosts: list[Host]) -> None:
    """Everybody runs, the network works, everybody talks."""
    world.passes = lambda *_: True
    world.delays = lambda: [DELAY]
    for host in hosts:
        if not host.running:
            host.start()
    for _ in range(240):
        for host in hosts:
            for number, other, _roaming in host.peer_list:
                host.send(other, packet(number, b"chat"))
        world.run(0.5)
        bounded(hosts)


def works(world: World, hosts: list[Host]) -> None:
    for host in hosts:
        assert len(host.received) == len(set(host.received)) or b"chat" in host.received[-1]
        host.received.clear()
    for host in hosts:
        for number, other, _roaming in host.peer_list:
            host.send(other, packet(number, b"proof"))
    world.run(1)
    for host in hosts:
        assert len(host.received) == len(hosts) - 1
        assert all(data.endswith(b"proof") for data in host.received)
        assert len(host.maps.slots) == len(hosts) - 1


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.sampled_from((2, 2, 3)))
def test_the_mesh_works_again_after_any_storm(layout: Layout, seed: int, count: int) -> None:
    chance = random.Random(seed)
    world, hosts = mesh(layout, count)
    storm(world, hosts, chance, steps=40)
    calm(world, hosts)
    works(world, hosts)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_nothing_is_lost_on_a_network_that_only_delays(layout: Layout, seed: int) -> None:
    """Both sides rotate at random; every packet arrives once."""
    chance = random.Random(seed)
    world, (one, two) = mesh(layout, 2)
    world.delays = lambda: [chance.randrange(DELAY // 2, 20 * DELAY)]
    for serial in range(300):
        one.send(two, packet(1, serial.to_bytes(4, "big")))
        two.send(one, packet(0, serial.to_bytes(4, "big")))
        if chance.random() < 0.05:
            side, other = chance.choice(((one, two), (two, one)))
            side.exchanges.initiate(side.peer(other), "asked for")
        world.run(chance.choice((0, 0.001, 0.01, 0.2, 1)))
        bounded([one, two])
    world.run(1)
    assert len(one.received) == len(set(one.received)) == 300
    assert len(two.received) == len(set(two.received)) == 300


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_host_floods_another(layout: Layout, seed: int) -> None:
    """However much is asked for, sent and lost: an INITIATION a second at most."""
    chance = random.Random(seed)
    world, hosts = mesh(layout, 2)
    for _ in range(3):
        storm(world, hosts, chance, 20, actions=("send", "rotate", "wait"))
    for host in hosts:
        times = [when for kind, when in host.messages if kind == "initiation"]
        for first, second in itertools.pairwise(times):
            assert second - first >= SECOND
