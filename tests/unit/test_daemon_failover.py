# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with several endpoints, one of which goes dark, or whose own addresses change: hours of
simulated time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brine.daemon import endpoints
from brine.daemon.exchanges import GIVE_UP, JITTER, RETRY
from brine.daemon.journal import ERROR, WARNING, Log
from brine.daemon.liveness import DEAD, TICK
from brine.daemon.membership import Membership
from brine.daemon.peers import Peer
from brine.daemon.timers import SECOND
from brine.layout import Layout
from brine.locking import locked
from brine.records import PeerEntry
from brine.roster import Endpoint, parse_endpoint
from brine.sources import Followed, Sources
from tests.unit.simulated import Data, Host, World, packet

HOUR = 3600
TO_TWO, TO_ONE = 1, 2
FAILOVER = 27  #: s until data flows again by the second endpoint: docs/protocol.md


class Mesh:
    """Two hosts with an endpoint of each family; `dark` endpoints neither send nor receive."""

    def __init__(self, layout: Layout) -> None:
        self.world = World()
        self.one = Host(self.world, layout, "one", "192.0.2.1")
        self.two = Host(self.world, layout, "two", "192.0.2.2")
        for number, host in enumerate((self.one, self.two), 1):
            host.others = (parse_endpoint(f"[2001:db8::{number}]:4747"),)
        self.one.knows(TO_TWO, self.two)
        self.two.knows(TO_ONE, self.one)
        self.one.start()
        self.two.start()
        self.dark: set[Endpoint] = set()
        self.world.carries = lambda source, to, _message: not {source, to} & self.dark
        self._sent = 0

    def talk(self, seconds: int, back: bool = True) -> list[int]:
        """A packet a second from one to two, and one back; the seconds in which it arrived
        (with `back`: both)."""
        arrived = []
        for second in range(seconds):
            self._sent += 1
            there, here = (
                packet(number, self._sent.to_bytes(4, "big")) for number in (TO_TWO, TO_ONE)
            )
            self.one.send(self.two, there)
            if back:
                self.two.send(self.one, here)
            self.world.run(1)
            if there in self.two.received and (not back or here in self.one.received):
                arrived.append(second)
            self.one.received.clear()
            self.two.received.clear()
        return arrived

    @property
    def used(self) -> tuple[int, int]:
        """The families that one reaches two by, and two one."""
        found = self.one.reached[TO_TWO], self.two.reached[TO_ONE]
        assert found[0] is not None
        assert found[1] is not None
        return found[0].address.version, found[1].address.version


@pytest.fixture
def mesh(layout: Layout) -> Mesh:
    return Mesh(layout)


def test_the_bound_is_what_the_parts_add_up_to() -> None:
    most = DEAD + TICK + endpoints.TRIES * (RETRY + JITTER)
    assert most <= FAILOVER * SECOND
    # and all endpoints are tried in one exchange, also while both identities are rotated
    assert 4 * 4 * (RETRY + JITTER) <= GIVE_UP


def test_the_preferred_endpoint_is_used_while_it_is_well(mesh: Mesh) -> None:
    assert len(mesh.talk(2 * HOUR)) == 2 * HOUR
    assert mesh.used == (4, 4)


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("side", ["one", "two"])
def test_traffic_moves_when_an_endpoint_goes_dark(mesh: Mesh, side: str, back: bool) -> None:
    assert mesh.talk(60, back)[-1] == 59
    mesh.dark = {getattr(mesh, side).endpoint}
    arrived = mesh.talk(120, back)
    assert arrived[0] <= FAILOVER
    assert arrived == list(range(arrived[0], 120))  # and stays
    assert mesh.used == (6, 6)


def test_it_stays_there_until_an_exchange_that_nobody_waits_for(mesh: Mesh) -> None:
    mesh.talk(5)
    mesh.dark = {mesh.two.endpoint}
    mesh.talk(60)
    mesh.dark = set()
    exchanges = mesh.one.sent("initiation") + mesh.two.sent("initiation")
    assert len(mesh.talk(600)) == 600
    assert mesh.used == (6, 6)
    assert mesh.one.sent("initiation") + mesh.two.sent("initiation") == exchanges
    assert len(mesh.talk(HOUR)) == HOUR  # the association is renewed meanwhile
    assert mesh.used == (4, 4)


def test_a_renewal_that_finds_the_preferred_one_dark_costs_no_packet(mesh: Mesh) -> None:
    mesh.talk(5)
    mesh.dark = {mesh.two.endpoint}
    mesh.talk(60)
    assert len(mesh.talk(3 * HOUR)) == 3 * HOUR
    assert mesh.used == (6, 6)


def test_back_to_the_first_when_the_second_goes_dark(mesh: Mesh) -> None:
    mesh.talk(5)
    mesh.dark = {mesh.two.endpoint}
    mesh.talk(60)
    mesh.dark = set(mesh.two.others)
    arrived = mesh.talk(120)
    assert arrived[0] <= FAILOVER
    assert arrived == list(range(arrived[0], 120))
    assert mesh.used == (4, 4)


def test_an_operator_has_it_return(mesh: Mesh) -> None:
    mesh.talk(5)
    mesh.dark = {mesh.two.endpoint}
    mesh.talk(60)
    mesh.dark = set()
    mesh.one.exchanges.initiate(mesh.one.peer(mesh.two), "asked for", at_ease=True)
    assert len(mesh.talk(5)) == 5
    assert mesh.used == (4, 4)


@pytest.mark.parametrize("towards", ["one", "two"])
def test_one_direction_goes_dark(mesh: Mesh, towards: str) -> None:
    mesh.talk(5)
    end = getattr(mesh, towards).endpoint
    mesh.world.carries = lambda _source, to, _message: to != end
    arrived = mesh.talk(120)
    assert arrived[0] <= FAILOVER
    assert arrived == list(range(arrived[0], 120))


def test_exchanges_pass_where_data_does_not(mesh: Mesh) -> None:
    """As behind a firewall that knows brined's port only: data's source port is a flow's."""

    def carries(_source: Endpoint, to: Endpoint, message: bytes | Data) -> bool:
        return to.address.version == 6 or isinstance(message, bytes)

    mesh.talk(5)
    mesh.world.carries = carries
    arrived = mesh.talk(120)
    # An exchange at the endpoint in use, then one at the next, 15 s of silence before each; and
    # as much again if the two sides cross.
    assert arrived[0] <= 4 * DEAD // SECOND
    assert arrived == list(range(arrived[0], 120))
    assert mesh.used == (6, 6)


def test_a_first_exchange_finds_the_endpoint_that_answers(mesh: Mesh) -> None:
    mesh.dark = {mesh.two.endpoint}
    first = packet(TO_TWO, b"first")
    mesh.one.send(mesh.two, first)
    mesh.world.run(endpoints.TRIES * (RETRY + JITTER) / SECOND + 1)
    assert first in mesh.two.received  # held until then
    assert mesh.used == (6, 6)


def test_a_host_without_a_family_asks_the_others_at_once(mesh: Mesh) -> None:
    """Its first endpoint for the peer is of a family that it has lost since."""
    mesh.one.endpoint, mesh.one.others = mesh.one.others[0], ()
    first = packet(TO_TWO, b"first")
    mesh.one.send(mesh.two, first)
    mesh.world.run(1)
    assert first in mesh.two.received
    assert mesh.used[0] == 6


def test_a_restart_of_the_daemon_stays_where_packets_go(mesh: Mesh) -> None:
    mesh.talk(5)
    mesh.dark = {mesh.two.endpoint}
    mesh.talk(60)
    mesh.one.kill()
    mesh.one.start()
    assert len(mesh.talk(60)) == 60
    assert mesh.used == (6, 6)


def test_another_order_of_the_list_changes_nothing_by_itself(mesh: Mesh) -> None:
    mesh.talk(5)
    two = mesh.one.peer(mesh.two)
    messages = len(mesh.one.messages) + len(mesh.two.messages)
    mesh.one.table.move(two, two.endpoint, two.endpoints[::-1])
    assert len(mesh.talk(600)) == 600
    assert len(mesh.one.messages) + len(mesh.two.messages) == messages
    assert mesh.used == (4, 4)
    mesh.one.exchanges.initiate(two, "asked for", at_ease=True)
    assert len(mesh.talk(5)) == 5
    assert mesh.used == (6, 6)


def test_messages_of_somebody_else_move_nothing(mesh: Mesh) -> None:
    """An INITIATION that is repeated from another endpoint of its sender's, as an attacker can."""
    recorded: list[bytes] = []

    def note(source: Endpoint, _to: Endpoint, message: bytes | Data) -> bool:
        if isinstance(message, bytes) and source == mesh.one.endpoint:
            recorded.append(message)
        return True

    mesh.world.carries = note
    mesh.talk(5)
    mesh.one.exchanges.initiate(mesh.one.peer(mesh.two), "asked for", at_ease=True)
    mesh.talk(5)
    assert recorded
    for message in recorded:
        mesh.two.message(message, mesh.one.others[0])
    assert len(mesh.talk(60)) == 60
    assert mesh.used == (4, 4)


def test_a_roaming_peer_is_looked_for_where_the_roster_says(layout: Layout) -> None:
    world = World()
    home = Host(world, layout, "home", "192.0.2.1")
    rover = Host(world, layout, "rover", "198.51.100.7")
    home.knows(1, rover, roaming=True)
    rover.knows(2, home)
    home.start()
    rover.start()
    known = home.peer(rover)
    elsewhere = parse_endpoint("203.0.113.9:4747")
    home.table.move(known, elsewhere, (rover.endpoint,))
    home.reached[1] = elsewhere
    home.send(rover, packet(1, b"are you home"))
    world.run(endpoints.TRIES * (RETRY + JITTER) / SECOND + 1)
    assert rover.received == [packet(1, b"are you home")]
    assert home.reached[1] == rover.endpoint


@pytest.mark.parametrize(
    ("seconds", "cause"), [(30, "no answer"), (0, "no address or route to ask by")]
)
def test_giving_up_says_whether_it_could_ask(
    mesh: Mesh,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    cause: str,
) -> None:
    """The host has addresses for so long."""
    one = mesh.one
    one.exchanges._log = Log(WARNING, {})
    mesh.world.carries = lambda *_: False
    if seconds:
        one.exchanges.initiate(one.peer(mesh.two), "asked for")
        mesh.world.run(seconds)
    monkeypatch.setattr(one, "source", lambda _to: None)
    one.exchanges.initiate(one.peer(mesh.two), "asked for")
    mesh.world.run(100)
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "given up" in line)
    assert f'cause="{cause}"' in said


# When this host's addresses change


class Written:
    """What Membership writes into the maps of a host, whose slots bear these identities."""

    def __init__(self, host: Host) -> None:
        self.peers: dict[int, Endpoint | None] = {}
        self.endpoints: dict[Any, int] = {}
        self.identities = {peer.number: peer.identity for peer in host.table}

    def peer(self, number: int) -> PeerEntry | None:
        identity = self.identities.get(number)
        return PeerEntry(number, identity, None, False) if identity is not None else None

    def write_peer(
        self, number: int, _identity: bytes, endpoint: Endpoint | None, _roaming: bool
    ) -> None:
        self.peers[number] = endpoint

    def set_endpoint(self, address: Any, number: int) -> None:
        self.endpoints[address] = number

    def delete_endpoint(self, address: Any) -> None:
        raise AssertionError(f"{address} is still one of a peer's")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "apply.lock"


def member(host: Host, maps: Any, lock: Path) -> Membership:
    return Membership(maps, lock, host.table, host.timers, Log(ERROR, {}))


def followed(families: set[int], renamed: set[int]) -> Followed:
    return Followed(Sources(), True, frozenset(families), frozenset(renamed))


@pytest.mark.parametrize(
    ("families", "renamed", "moves", "begins"),
    [
        ({4, 6}, set(), False, False),
        ({6}, set(), True, True),
        ({4, 6}, {4}, False, True),  # peers send to the former address
        ({4, 6}, {6}, False, False),  # they do not send by this family
        (set(), set(), False, False),  # cut off: it may come back
    ],
)
def test_the_choice_is_looked_at_again(
    mesh: Mesh, lock: Path, families: set[int], renamed: set[int], moves: bool, begins: bool
) -> None:
    mesh.talk(5)
    one = mesh.one
    maps: Any = Written(one)
    membership = member(one, maps, lock)
    before = one.sent("initiation")
    membership.look_again(followed(families, renamed), one.exchanges)
    assert maps.peers == ({TO_TWO: mesh.two.others[0]} if moves else {})
    mesh.world.run(2)
    assert (one.sent("initiation") > before) is begins


def test_nobody_is_told_who_hears_nothing_of_this_host(mesh: Mesh, lock: Path) -> None:
    maps: Any = Written(mesh.one)
    member(mesh.one, maps, lock).look_again(followed({6}, set()), mesh.one.exchanges)
    mesh.world.run(2)
    assert maps.peers == {TO_TWO: mesh.two.others[0]}
    assert mesh.one.messages == []


def test_a_slot_that_is_another_peers_by_now_is_left_alone(mesh: Mesh, lock: Path) -> None:
    maps: Any = Written(mesh.one)
    maps.identities[TO_TWO] = b"\3" * 32
    two = mesh.one.peer(mesh.two)
    member(mesh.one, maps, lock).moved(two, mesh.two.others[0])
    assert maps.peers == {}
    assert two.endpoint == mesh.two.endpoint


@pytest.mark.parametrize("meanwhile", ["nothing", "moved again", "given away", "removed"])
def test_while_the_maps_are_being_changed_a_move_waits(
    mesh: Mesh, lock: Path, meanwhile: str
) -> None:
    """Else it would write what a slot bore before into one that is another peer's."""
    maps: Any = Written(mesh.one)
    two = mesh.one.peer(mesh.two)
    membership = member(mesh.one, maps, lock)
    elsewhere = mesh.two.others[0]
    with locked(lock):
        membership.moved(two, elsewhere)
        mesh.world.run(5)
        assert maps.peers == {}
        if meanwhile == "moved again":
            elsewhere = parse_endpoint("203.0.113.9:4747")
            membership.moved(two, elsewhere)
        elif meanwhile == "given away":
            maps.identities[TO_TWO] = b"\3" * 32
        elif meanwhile == "removed":
            mesh.one.table.remove(two)
    mesh.world.run(1)
    moved = meanwhile in ("nothing", "moved again")
    assert maps.peers == ({TO_TWO: elsewhere} if moved else {})
    assert two.endpoint == (elsewhere if moved else mesh.two.endpoint)


def test_who_is_left_at_an_address_is_listed_there(mesh: Mesh, lock: Path) -> None:
    maps: Any = Written(mesh.one)
    two, address = mesh.one.peer(mesh.two), mesh.two.endpoint.address
    neighbour = Peer(7, b"\7" * 32, "neighbour", Endpoint(address, 1), roaming=False)
    mesh.one.table.add(neighbour)
    mesh.one.table.move(two, two.endpoint, mesh.two.others)
    member(mesh.one, maps, lock).moved(two, mesh.two.others[0])
    assert maps.endpoints == {mesh.two.others[0].address: TO_TWO, address: 7}


def test_an_exchange_tells_the_peer(mesh: Mesh) -> None:
    """One loses IPv4: two, which cannot know, follows one's exchange."""
    mesh.talk(5)
    gone = mesh.one.endpoint
    mesh.one.endpoint, mesh.one.others = mesh.one.others[0], ()
    mesh.one.reached[TO_TWO] = mesh.two.others[0]
    mesh.one.table.move(mesh.one.peer(mesh.two), mesh.two.others[0])
    mesh.one.exchanges.initiate(mesh.one.peer(mesh.two), "addresses")
    mesh.world.run(1)
    assert mesh.two.reached[TO_ONE] == mesh.one.endpoint != gone
    assert len(mesh.talk(60)) == 60
