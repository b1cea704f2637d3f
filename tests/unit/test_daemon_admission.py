# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's own line against floods, and what it tells the data path for the first one."""

from __future__ import annotations

import socket
import time

import pytest

from brine import keys
from brine.daemon import admission, sockets
from brine.daemon.admission import Admission, Admit, Bucket, mapped
from brine.daemon.loop import Loop
from brine.daemon.sockets import Binding, Underlay
from brine.daemon.timers import SECOND, Timers
from brine.exchange import NO_PSK, Credential, Initiator
from brine.layout import Layout
from brine.records import boot_ns
from brine.roster import Endpoint, parse_endpoint
from tests.unit.simulated import packet, pair

TO_TWO = 1
HERE = parse_endpoint("192.0.2.1:4747")
SIDE = parse_endpoint("[2001:db8::1]:4747")


class Clock:
    """A judge and its clock."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND
        self.published: list[tuple[bytes, int]] = []
        self.judge = Admission(lambda: self.now, lambda *given: self.published.append(given))

    def answers(
        self, count: int, source: Endpoint = HERE, *, listed: bool = True, shown: bool = False
    ) -> dict[Admit, int]:
        """What becomes of so many INITIATIONs."""
        right = self.judge.cookie(source)
        found = [
            self.judge.judge(source, listed, lambda cookie: shown and cookie == right)
            for _ in range(count)
        ]
        return {each: found.count(each) for each in Admit}


@pytest.mark.parametrize(
    ("listed", "rate"), [(True, admission.PEERS), (False, admission.STRANGERS)]
)
def test_a_bucket_then_cookies_then_silence(listed: bool, rate: tuple[int, int]) -> None:
    clock = Clock()
    each, burst = rate
    assert clock.answers(burst, listed=listed)[Admit.ANSWER] == burst
    found = clock.answers(1000, listed=listed)
    assert found == {
        Admit.ANSWER: 0,
        Admit.COOKIE: admission.COOKIES[1],
        Admit.SILENCE: 1000 - admission.COOKIES[1],
    }
    assert clock.judge.cookies == admission.COOKIES[1]
    assert clock.judge.ignored == 1000 - admission.COOKIES[1]
    clock.now += SECOND
    found = clock.answers(1000, listed=listed)
    assert found[Admit.ANSWER] == each
    assert found[Admit.COOKIE] == admission.COOKIES[0]


def test_strangers_take_nothing_from_peers() -> None:
    clock = Clock()
    clock.answers(5000, listed=False)
    assert clock.answers(1, listed=False)[Admit.ANSWER] == 0
    assert clock.answers(admission.PEERS[1])[Admit.ANSWER] == admission.PEERS[1]


def test_peers_take_nothing_from_strangers() -> None:
    clock = Clock()
    clock.answers(5000)
    found = clock.answers(admission.STRANGERS[1], listed=False)
    assert found[Admit.ANSWER] == admission.STRANGERS[1]


@pytest.mark.parametrize("source", [HERE, SIDE])
def test_shown_cookies_are_answered_so_many_a_source(source: Endpoint) -> None:
    clock = Clock()
    clock.answers(5000)
    found = clock.answers(20, source, shown=True)
    assert found[Admit.ANSWER] == admission.SOURCE[1]
    assert found[Admit.COOKIE] == 0
    other = parse_endpoint("192.0.2.2:4747" if source == HERE else "[2001:db8:0:1::1]:4747")
    assert clock.answers(1, other, shown=True)[Admit.ANSWER] == 1
    if source == SIDE:  # the same /64
        beside = parse_endpoint("[2001:db8::2]:4747")
        assert clock.answers(1, beside, shown=True)[Admit.ANSWER] == 0


def test_all_that_show_cookies_together_are_limited() -> None:
    clock = Clock()
    clock.answers(5000, listed=False)
    sources = [parse_endpoint(f"10.0.{n >> 8}.{n & 255}:4747") for n in range(1000)]
    answered = sum(
        clock.answers(1, source, listed=False, shown=True)[Admit.ANSWER] for source in sources
    )
    assert answered == admission.SHOWN_STRANGERS[1]


def test_cookies_are_bound_to_the_source_and_die_with_their_secret() -> None:
    clock = Clock()
    other = parse_endpoint("192.0.2.1:4748")
    cookie = clock.judge.cookie(HERE)
    assert clock.judge.cookie(HERE) == cookie
    assert clock.judge.cookie(other) != cookie
    clock.now += 121 * SECOND
    assert clock.judge.cookie(HERE) != cookie


def test_the_data_path_is_told_what_cookies_are_made_of() -> None:
    clock = Clock()
    for turn in range(3):
        assert len(clock.published) == turn + 1
        secret, not_after = clock.published[-1]
        assert keys.cookie(secret, mapped(SIDE), SIDE.port) == clock.judge.cookie(SIDE)
        assert not_after == clock.now + 120 * SECOND
        clock.now = not_after - 1
        clock.judge.cookie(SIDE)
        assert len(clock.published) == turn + 1
        clock.now = not_after
        clock.judge.cookie(SIDE)


def test_under_load_a_cookie_is_asked_for_and_given(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PEERS", (0, 0))
    world, one, two = pair(layout)
    one.send(two, packet(TO_TWO, b"hello"))
    world.run(4)
    assert two.sent("cookie") == 1
    assert one.sent("initiation") == 2
    assert two.received == [packet(TO_TWO, b"hello")]


# What the daemon tells the data path


def test_answers_are_awaited_while_an_initiation_waits(layout: Layout) -> None:
    world, one, two = pair(layout)
    world.passes = lambda *_: False
    one.send(two, packet(TO_TWO, b"hello"))
    (first,) = one.maps.awaited
    world.run(6)
    (second,) = one.maps.awaited  # the next one's, not both
    assert first != second
    world.run(120)  # given up
    assert not one.maps.awaited
    world.passes = lambda *_: True
    one.send(two, packet(TO_TWO, b"hello"))
    assert len(one.maps.awaited) == 1
    world.run(1)  # answered
    assert two.received
    assert not one.maps.awaited
    assert not two.maps.awaited


def test_a_new_daemon_waits_for_nothing_of_the_former(layout: Layout) -> None:
    world, one, two = pair(layout)
    world.passes = lambda *_: False
    one.send(two, packet(TO_TWO, b"hello"))
    assert one.maps.awaited
    one.kill()
    one.start()
    assert not one.maps.awaited


def test_the_data_path_knows_every_key_that_we_answer_to(layout: Layout) -> None:
    _world, one, two = pair(layout)
    other = Credential(keys.generate_private(), NO_PSK)
    former = one.credential
    assert list(one.maps.mac1_keys) == [former.mac1_key]
    one.exchanges.use(other, former)
    assert list(one.maps.mac1_keys) == [other.mac1_key, former.mac1_key]
    for known in (other, former):
        message = Initiator(
            layout, two.credential.private, known.public, NO_PSK, 1, bytes(12)
        ).message
        assert one.maps.admits(layout, message)
    one.exchanges.use(other)
    assert list(one.maps.mac1_keys) == [other.mac1_key]


# Sockets


def test_a_flood_that_comes_through_the_stack_is_read_at_a_bounded_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fragments pass XDP by; here it is loopback."""
    monkeypatch.setattr(sockets, "PACE", (50, 100))
    got: list[bytes] = []
    loop = Loop(Timers(boot_ns))
    underlay = Underlay(loop, lambda data, _source: got.append(data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    underlay.bind(Binding(HERE.address.__class__("127.0.0.1"), None, port, "lo", 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(400):
            sender.sendto(number.to_bytes(2, "big"), ("127.0.0.1", port))
        turns = 0
        while len(got) < 110:
            loop.step()
            turns += 1
        took = time.monotonic() - began
        assert len(got) <= 100 + 50 * (took + 0.1)
        assert turns < 2000 * took + 50  # it waits, and does not spin
    underlay.close()
    loop.step()  # a pause that ends afterwards harms nothing
    for _ in range(5):
        time.sleep(0.02)
        loop.step()
    loop.close()


def test_a_bucket_fills_with_time() -> None:
    bucket = Bucket(10, 3, 0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(SECOND // 10 - 1)
    assert bucket.take(SECOND // 5)
    assert [bucket.take(100 * SECOND) for _ in range(4)] == [True, True, True, False]
