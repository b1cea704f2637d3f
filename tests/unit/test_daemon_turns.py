# SPDX-License-Identifier: GPL-3.0-or-later
"""When the daemon makes a key, and when it announces it: on a clock that jumps, beside a data
path that keeps the rules of bpf/control_ratchet.h."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from brine.daemon.journal import ERROR, Log
from brine.daemon.peers import Living, Peer, PeerTable
from brine.daemon.ratchet import REKEY_INTERVAL, Ratchets
from brine.daemon.timers import SECOND, Timers
from brine.records import Association, ControlError, DeriveEvent, PeerState, Ratchet

NUMBER, PEER = 3, 1
TICK = SECOND // 2
REST = 10 * SECOND


@dataclass
class Host:
    """One association, its data path and the peer at the other end, which answers every
    announcement that reaches it."""

    now: int = 1000 * SECOND
    reachable: bool = True
    last_data: int = 0
    counter: int = 0  # of the busiest lane of the sending pair

    def __post_init__(self) -> None:
        self.ratchet = replace(Ratchet.first(self.now), own_since=self.now)
        self.local_index = 7
        self.made: list[int] = []  # when
        self.exchanges: list[str] = []
        self.looks = 0  # at the counters
        self.announced: list[int] = []
        self.peer = Peer(PEER, b"\1" * 32, "peer", None, False)
        self.living = Living(NUMBER, 7, True, self.now, 10**18, 10**18, confirmed=True)
        self.peer.living.append(self.living)
        self.peer.current = self.living
        self.start()

    def start(self) -> None:
        """The daemon, which knows nothing but the maps."""
        table = PeerTable()
        table.add(self.peer)
        self.ratchets = Ratchets(
            self,
            table,
            Timers(lambda: self.now),
            cast(Any, self),
            cast(Any, self),
            self.keepalive,
            Log(ERROR, {}),
        )

    def later(self, seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            self.now += TICK
            self.ratchets.tick()

    def turned(self, **changes: Any) -> None:
        self.ratchet = replace(self.ratchet, **changes)

    # what the daemon asks of the maps

    def association(self, number: int) -> Association | None:
        assert number == NUMBER
        living = self.living
        return Association(
            number, PEER, "confirmed", living.local_index, 9, living.created,
            living.send_not_after, living.receive_not_after, True, self.ratchet,
        )  # fmt: skip

    def drawn(self, number: int, own: int, peer: int) -> int:
        assert (number, own, peer) == (NUMBER, self.ratchet.send_own, self.ratchet.send_peer)
        self.looks += 1
        return self.counter

    def state(self, _peer: Peer) -> PeerState:
        return PeerState(NUMBER, self.last_data, self.last_data, self.last_data, self.last_data)

    def rotate(self, number: int, generation: int, private: bytes) -> None:
        assert (number, len(private)) == (NUMBER, 32)
        now = self.ratchet
        if (
            not now.settled
            or now.own_previous
            or self.now < max(now.own_since + REST, now.own_rest_until)
        ):
            raise ControlError("CONTROL_NOT_DUE")
        assert generation == now.own_current + 1
        self.made.append(self.now)
        self.turned(
            own_current=generation,
            unproved=True,
            own_unused=True,
            own_previous=True,
            own_since=self.now,
        )

    def derive(self, number: int) -> None:
        assert number == NUMBER

    def derive_pair(self, asked: DeriveEvent) -> None:
        raise AssertionError("`open` makes its pairs itself here")

    def retire(self, number: int) -> bool:
        assert number == NUMBER
        now = self.ratchet
        if not now.own_previous or not now.settled or self.now < now.own_used_at + REST:
            return False
        self.turned(own_previous=False, own_rest_until=self.now + REST)
        return True

    def keepalive(self, peer: int, *, announce: bool = False) -> bool:
        assert peer == PEER
        if announce:
            self.announced.append(self.now)
            if self.reachable:
                self.answer()
        return True

    def answer(self) -> None:
        """A keepalive of the peer, on the pair of both newest keys."""
        if self.ratchet.send_own != self.ratchet.own_current:
            self.counter = 0
        self.turned(
            unproved=False,
            own_unused=False,
            own_used_at=self.now,
            send_own=self.ratchet.own_current,
            send_peer=self.ratchet.peer_current,
        )

    def initiate(self, _peer: Peer, reason: str) -> None:
        self.exchanges.append(reason)


def test_a_key_on_demand_is_made_at_once() -> None:
    host = Host()
    host.later(15)
    assert host.ratchets.want(host.peer)
    assert host.made == [host.now]
    assert host.announced == [host.now]
    assert host.ratchet.send_own == 1
    host.later(600)  # once, and nobody sends data
    assert len(host.made) == 1


def test_a_key_on_demand_waits_until_it_may_be_made() -> None:
    host = Host()
    host.later(15)
    assert host.ratchets.want(host.peer)
    first = host.now
    assert not host.ratchets.want(host.peer)
    assert not host.ratchets.want(host.peer)  # the same: one key
    host.later(19)
    assert host.made == [first]
    host.later(3)
    assert len(host.made) == 2
    host.later(300)
    assert len(host.made) == 2


def test_a_key_on_demand_outlives_its_association() -> None:
    """The exchange may have begun before it was asked for."""
    host = Host()
    assert not host.ratchets.want(host.peer)  # made just now
    host.living.confirmed = False
    host.later(2)
    host.living.confirmed = True
    host.living.local_index = 8
    host.later(15)
    assert len(host.made) == 1


def test_no_key_before_the_last_one_has_reached_the_peer() -> None:
    host = Host()
    host.later(15)
    host.reachable = False
    assert host.ratchets.want(host.peer)
    assert not host.ratchets.want(host.peer)
    host.later(100)
    assert len(host.made) == 1
    host.reachable = True
    host.later(40)
    assert len(host.made) == 2


def test_announcements_are_repeated_for_each_pair() -> None:
    host = Host(reachable=False)
    host.later(15)
    host.ratchets.want(host.peer)
    begun = host.now
    host.later(20)
    assert [(when - begun) // SECOND for when in host.announced] == [0, 1, 3, 7, 12, 17]
    # The peer's own key has crossed it: both newest are another pair.
    host.turned(peer_current=1, send_peer=1)
    host.later(0.5)
    assert host.announced[-1] == host.now


def test_announced_until_data_has_moved_and_no_longer() -> None:
    """Proved is not enough."""
    host = Host(reachable=False)
    host.later(15)
    host.ratchets.want(host.peer)
    for changes in ({"unproved": False}, {"own_unused": False}):
        host.turned(**changes)
        before = len(host.announced)
        host.later(11)
        assert len(host.announced) > before
    host.answer()
    before = len(host.announced)
    host.later(30)
    assert len(host.announced) == before
    assert not host.ratchet.own_previous


def test_what_never_settles_ends_in_an_exchange() -> None:
    host = Host(reachable=False)
    host.later(15)
    host.ratchets.want(host.peer)
    host.turned(unproved=False)
    host.later(298)
    assert host.exchanges == []
    host.later(5)
    assert set(host.exchanges) == {"ratchet"}


def test_a_lane_that_nears_its_end_has_a_key_made() -> None:
    host = Host(counter=(1 << 36) - 1)
    for _ in range(20):  # data flows
        host.last_data = host.now
        host.later(3)
    assert host.made == []
    host.counter += 1
    host.last_data = host.now
    host.later(31)
    assert len(host.made) == 1
    host.last_data = host.now
    host.later(60)
    assert len(host.made) == 1


def test_counters_are_not_looked_at_where_none_are_drawn() -> None:
    host = Host()
    host.later(600)
    assert host.looks == 1  # an earlier daemon may have left them so
    host.last_data = host.now
    host.later(600)
    assert host.looks == 2


def test_a_lane_near_its_end_is_found_by_the_next_daemon() -> None:
    host = Host(counter=1 << 39)
    host.later(15)
    host.start()
    host.later(15)
    assert len(host.made) == 1


class Machine(RuleBasedStateMachine):
    """Everything that makes a key, in any order, with a peer that is not always there."""

    @initialize()
    def begin(self) -> None:
        self.host = Host()
        self.wanted_at: int | None = None

    @rule(seconds=st.sampled_from((0.5, 2, 11, 25, 70)), data=st.booleans())
    def later(self, seconds: float, data: bool) -> None:
        if data:
            self.host.last_data = self.host.now + 1
        self.host.later(seconds)

    @rule(reachable=st.booleans())
    def reach(self, reachable: bool) -> None:
        self.host.reachable = reachable

    @rule()
    def want(self) -> None:
        made = len(self.host.made)
        now = self.host.ratchets.want(self.host.peer)
        assert now == (len(self.host.made) > made)
        if not now and self.wanted_at is None:
            self.wanted_at = self.host.now
        elif now:
            self.wanted_at = None

    @rule()
    def draw(self) -> None:
        """Data, and very much of it."""
        self.host.last_data = self.host.now + 1
        self.host.counter = 1 << 36

    @rule()
    def kill(self) -> None:
        self.host.start()
        self.wanted_at = None

    @invariant()
    def at_rest(self) -> None:
        made = self.host.made
        assert all(later - sooner >= 2 * REST for sooner, later in itertools.pairwise(made))

    def teardown(self) -> None:
        """The peer is there: what was asked for is done, and then nothing is left to do."""
        host = self.host
        host.reachable = True
        if self.wanted_at is not None and host.made and host.made[-1] > self.wanted_at:
            self.wanted_at = None
        host.later(60)
        if self.wanted_at is not None:
            assert host.made[-1] > self.wanted_at
        assert host.ratchet.settled
        host.later(REKEY_INTERVAL / SECOND)
        assert host.counter < 1 << 36
        made = len(host.made)
        host.later(REKEY_INTERVAL / SECOND + 60)
        assert len(host.made) == made
        assert not host.ratchet.own_previous


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
