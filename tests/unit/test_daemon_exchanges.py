# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchanges and the life of associations, hours of it, between simulated hosts."""

from __future__ import annotations

import pytest

from brine.daemon.timers import SECOND
from brine.exchange import Credential
from brine.layout import Layout
from tests.unit.simulated import Data, Host, World, packet, pair

TO_TWO = 1  # what `one` calls `two`, and the other way round
TO_ONE = 2


def secrets_of(host: Host) -> set[bytes]:
    return {slot.secret for slot in host.maps.slots.values()}


def chat(world: World, one: Host, two: Host, seconds: float, step: float = 5) -> None:
    """Both talk for a while."""
    passed = 0.0
    while passed < seconds:
        one.send(two, packet(TO_TWO, b"chat"))
        two.send(one, packet(TO_ONE, b"chat"))
        world.run(step)
        passed += step


def test_first_packets_are_held_and_arrive_in_order(layout: Layout) -> None:
    world, one, two = pair(layout)
    sent = [packet(TO_TWO, bytes((number,))) for number in range(5)]
    for data in sent:
        one.send(two, data)
    world.run(1)
    assert two.received == sent
    assert one.sent("initiation") == 1
    assert two.sent("response") == 1


def test_association_is_confirmed_without_data(layout: Layout) -> None:
    world, one, two = pair(layout)
    one.exchanges.initiate(one.peer(two), "test")
    world.run(1)
    for host in (one, two):
        (association,) = host.maps.associations()
        assert association.state == "confirmed"
        assert host.maps.peer_state(association.peer).sending == association.number
    assert two.keepalives == 1  # the initiator's, at RESPONSE
    assert one.keepalives == 1  # and its answer
    assert secrets_of(one) == secrets_of(two)


def test_responder_sends_nothing_before_the_first_packet(layout: Layout) -> None:
    world, one, two = pair(layout)
    world.passes = lambda _a, _b, message: not isinstance(message, Data)
    one.exchanges.initiate(one.peer(two), "test")
    world.run(0.5)
    (association,) = two.maps.associations()
    assert association.state == "pending"
    two.send(one, packet(TO_ONE, b"early"))
    world.run(0.1)
    assert two.hold.count(TO_ONE) == 1
    assert two.sent("initiation") == 0  # the peer's exchange is under way
    world.passes = lambda *_: True
    world.run(2)
    assert one.received == [packet(TO_ONE, b"early")]


def test_lost_response_is_retried_with_a_fresh_initiation(layout: Layout) -> None:
    world, one, two = pair(layout)
    seen: list[bytes] = []

    def passes(_from: Host, _to: Host, message: bytes | Data) -> bool:
        if isinstance(message, bytes):
            seen.append(message)
        return isinstance(message, Data) or len(message) == 1384 or len(seen) > 3

    world.passes = passes
    one.send(two, packet(TO_TWO, b"hello"))
    world.run(8)
    initiations = [message for message in seen if len(message) == 1384]
    assert len(initiations) == 2
    assert initiations[0][:36] != initiations[1][:36]
    first, second = (when for kind, when in one.messages if kind == "initiation")
    assert 5 * SECOND <= second - first <= 6 * SECOND
    assert two.received == [packet(TO_TWO, b"hello")]
    assert len(two.maps.slots) == 1  # the newer INITIATION replaced the older pending one


def test_gives_up_after_90_seconds_and_begins_again_on_traffic(layout: Layout) -> None:
    world, one, two = pair(layout)
    two.kill()
    one.send(two, packet(TO_TWO, b"lost"))
    world.run(200)
    attempts = [when for kind, when in one.messages if kind == "initiation"]
    assert attempts[-1] - attempts[0] < 90 * SECOND
    assert 16 <= len(attempts) <= 18
    assert one.hold.count(TO_TWO) == 0
    two.start()
    one.send(two, packet(TO_TWO, b"again"))
    world.run(1)
    assert two.received == [packet(TO_TWO, b"again")]


def test_wrong_psk_never_associates(layout: Layout) -> None:
    world, one, two = pair(layout)
    two.kill()
    two.credential = Credential(two.credential.private, b"\1" * 32)
    two.start()
    one.send(two, packet(TO_TWO, b"hello"))
    two.send(one, packet(TO_ONE, b"hello"))
    world.run(120)
    assert not one.maps.slots
    assert not two.maps.slots
    assert one.sent("response") == two.sent("response") == 0


def test_strangers_get_silence(layout: Layout) -> None:
    world, one, two = pair(layout)
    stranger = Host(world, layout, "stranger", "192.0.2.9")
    stranger.knows(3, two)
    stranger.start()
    stranger.send(two, packet(3, b"let me in"))
    world.run(60)
    assert not two.messages
    assert not two.maps.slots
    assert one.received == two.received == []


def test_simultaneous_initiation_keeps_the_smaller_identitys(layout: Layout) -> None:
    world, one, two = pair(layout)
    one.send(two, packet(TO_TWO, b"from one"))
    two.send(one, packet(TO_ONE, b"from two"))
    world.run(1)
    assert two.received == [packet(TO_TWO, b"from one")]
    assert one.received == [packet(TO_ONE, b"from two")]
    assert two.sent("response") == 1
    assert one.sent("response") == 0
    for host, initiated in ((one, True), (two, False)):
        (association,) = host.maps.associations()
        assert association.state == "confirmed"
        assert association.initiated is initiated
        assert host.maps.peer_state(association.peer).sending == association.number
    assert secrets_of(one) == secrets_of(two)


def test_simultaneous_initiation_loses_no_packet_while_both_live(layout: Layout) -> None:
    world, one, two = pair(layout)
    for number in range(200):
        one.send(two, packet(TO_TWO, number.to_bytes(2, "big")))
        two.send(one, packet(TO_ONE, number.to_bytes(2, "big")))
        world.run(0.1)
    assert len(set(one.received)) == len(one.received) == 200
    assert len(set(two.received)) == len(two.received) == 200


@pytest.mark.parametrize(
    ("side", "lost"),
    # The smaller identity, side 0, answers nothing while its own exchange is under way.
    [(0, "initiation"), (0, "data"), (1, "initiation"), (1, "response"), (1, "data")],
)
def test_simultaneous_initiation_survives_a_loss(layout: Layout, lost: str, side: int) -> None:
    world, one, two = pair(layout)
    kinds = {1384: "initiation", 1232: "response"}
    taken: list[str] = []

    def passes(sender: Host, _to: Host, message: bytes | Data) -> bool:
        kind = "data" if isinstance(message, Data) else kinds[len(message)]
        if sender is (one, two)[side] and kind == lost and not taken:
            taken.append(kind)
            return False
        return True

    world.passes = passes
    one.send(two, packet(TO_TWO, b"a"))
    two.send(one, packet(TO_ONE, b"b"))
    world.run(30)
    assert taken == [lost]
    chat(world, one, two, 90)  # a pending one may live so long
    one.received.clear()
    two.received.clear()
    chat(world, one, two, 60)
    assert len(one.received) == len(two.received) == 12
    assert secrets_of(one) == secrets_of(two)
    assert len(one.maps.slots) == 1


def test_renewed_after_an_hour_without_a_loss(layout: Layout) -> None:
    world, one, two = pair(layout)
    chat(world, one, two, 3590)
    before = secrets_of(one)
    assert one.sent("initiation") + two.sent("initiation") <= 2
    chat(world, one, two, 60, step=0.5)
    after = secrets_of(one)
    assert len(after) == 1
    assert after == secrets_of(two)
    assert not after & before
    assert len(one.received) == len(two.received) == 718 + 120


def test_responder_renews_where_the_initiator_does_not(layout: Layout) -> None:
    world, one, two = pair(layout)
    one.exchanges.initiate(one.peer(two), "test")
    world.run(1)
    chat(world, one, two, 3500)
    one.kill()  # its maps go on
    chat(world, one, two, 150)
    assert two.sent("initiation") == 0
    one.start()
    chat(world, one, two, 30)
    (association,) = two.maps.associations()
    assert association.created > 4600 * SECOND


def test_expires_where_no_daemon_renews(layout: Layout) -> None:
    world, one, two = pair(layout)
    chat(world, one, two, 100)
    one.kill()
    two.kill()
    chat(world, one, two, 3790)
    received = len(two.received)
    assert received == (100 + 3790) / 5
    world.run(20)
    chat(world, one, two, 100)
    assert len(two.received) == received  # closed by itself
    one.start()
    two.start()
    assert one.maps.slots == {}
    chat(world, one, two, 10)
    assert len(two.received) == received + 2


def test_idle_association_is_erased(layout: Layout) -> None:
    world, one, two = pair(layout)
    one.send(two, packet(TO_TWO, b"once"))
    world.run(350)
    assert len(one.maps.slots) == len(two.maps.slots) == 1
    world.run(20)
    assert one.maps.slots == two.maps.slots == {}
    one.send(two, packet(TO_TWO, b"twice"))
    world.run(1)
    assert len(two.received) == 2


def test_one_way_traffic_is_answered_by_keepalives(layout: Layout) -> None:
    world, one, two = pair(layout)
    for _ in range(60):
        one.send(two, packet(TO_TWO, b"one way"))
        world.run(1)
    assert 5 <= one.keepalives <= 7
    assert one.sent("initiation") == 1


def test_silence_after_data_leads_to_an_exchange(layout: Layout) -> None:
    world, one, two = pair(layout)
    chat(world, one, two, 20)
    two.reboot()
    begun = world.now
    initiations = one.sent("initiation")
    while one.sent("initiation") == initiations:
        one.send(two, packet(TO_TWO, b"anyone?"))
        world.run(0.5)
    assert 14 * SECOND <= world.now - begun <= 17 * SECOND


def test_peer_that_forgot_answers_unknown_data_with_an_exchange(layout: Layout) -> None:
    world, one, two = pair(layout)
    chat(world, one, two, 20)
    two.reboot()
    two.start()
    one.send(two, packet(TO_TWO, b"lost"))
    world.run(1)
    one.send(two, packet(TO_TWO, b"arrives"))
    world.run(1)
    assert two.received[-1] == packet(TO_TWO, b"arrives")
    assert secrets_of(two) <= secrets_of(one)
    world.run(15)
    assert secrets_of(two) == secrets_of(one)


def test_unknown_data_moves_nobody_while_an_association_works(layout: Layout) -> None:
    world, one, two = pair(layout)
    chat(world, one, two, 20)
    forged = Data(index=12345, secret=b"", packet=b"x")
    for _ in range(100):
        two.open(forged, one)
        world.run(0.05)
    assert two.sent("initiation") + one.sent("initiation") <= 2


def test_restart_adopts(layout: Layout) -> None:
    world, one, two = pair(layout)
    chat(world, one, two, 30)
    before = dict(one.maps.slots)
    one.kill()
    chat(world, one, two, 30)
    assert one.start() == 1
    chat(world, one, two, 30)
    assert one.maps.slots == before
    assert len(one.received) == len(two.received) == 18
    assert one.sent("initiation") + two.sent("initiation") <= 2


@pytest.mark.parametrize("step", range(1, 14))
def test_killed_at_any_moment_of_an_exchange(layout: Layout, step: int) -> None:
    world, one, two = pair(layout)
    victim = (one, two)[step % 2]
    one.send(two, packet(TO_TWO, b"hello"))
    world.run(step * 0.0005)
    victim.kill()
    victim.start()
    world.run(30)
    one.send(two, packet(TO_TWO, b"one"))
    two.send(one, packet(TO_ONE, b"two"))
    world.run(30)
    one.received.clear()
    two.received.clear()
    chat(world, one, two, 60)
    assert len(one.received) == len(two.received) == 12
    assert len(one.maps.slots) == len(two.maps.slots) == 1


def test_clock_that_was_ahead_locks_nobody_out(layout: Layout) -> None:
    world, one, two = pair(layout)
    one.clock_error = 3600 * SECOND
    one.send(two, packet(TO_TWO, b"ahead"))
    world.run(120)
    one.clock_error = 0
    one.reserved = 0  # the disk was lost with the clock
    one.reboot()
    one.start()
    one.send(two, packet(TO_TWO, b"behind"))
    world.run(10)
    assert two.received == [packet(TO_TWO, b"ahead"), packet(TO_TWO, b"behind")]
    # One exchange of the other side's is answered; if both crossed, its second attempt is, too.
    assert one.sent("response") in (1, 2)


def test_replayed_initiation_has_no_effect(layout: Layout) -> None:
    world, one, two = pair(layout)
    recorded: list[bytes] = []

    def passes(_from: Host, _to: Host, message: bytes | Data) -> bool:
        if isinstance(message, bytes) and len(message) == 1384:
            recorded.append(message)
        return True

    world.passes = passes
    one.send(two, packet(TO_TWO, b"hello"))
    world.run(100)
    responses = two.sent("response")
    for restart in (False, True):
        if restart:
            two.kill()
            two.start()
        two.message(recorded[0], one.endpoint)
        world.run(10)
    assert two.sent("response") == responses
    assert two.sent("initiation") == 0
    assert len(two.maps.slots) == 1


def test_a_replay_does_not_replace_the_pending_association(layout: Layout) -> None:
    world, one, two = pair(layout)
    recorded: list[bytes] = []

    def passes(_from: Host, _to: Host, message: bytes | Data) -> bool:
        if isinstance(message, bytes):
            recorded.append(message)
        return not isinstance(message, Data) and len(message) == 1384

    world.passes = passes
    one.send(two, packet(TO_TWO, b"hello"))
    world.run(0.1)
    pending = dict(two.maps.slots)
    two.message(recorded[0], one.endpoint)
    world.run(0.1)
    assert two.maps.slots == pending


def test_roaming_peer_is_followed_and_a_pinned_one_is_not(layout: Layout) -> None:
    world = World()
    home = Host(world, layout, "home", "192.0.2.1")
    rover = Host(world, layout, "rover", "198.51.100.7")
    home.knows(1, rover, roaming=True)
    rover.knows(2, home)
    home.start()
    rover.start()
    home.send(rover, packet(1, b"nobody knows where"))
    world.run(1)
    assert home.messages == []
    rover.send(home, packet(2, b"here I am"))
    world.run(1)
    assert home.peer(rover).endpoint == rover.endpoint
    home.send(rover, packet(1, b"welcome"))
    world.run(1)
    assert rover.received == [packet(1, b"welcome")]


def test_lost_event_is_made_up_for(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    world, one, two = pair(layout)
    monkeypatch.setattr(two, "_confirmed", lambda *_: None)
    one.send(two, packet(TO_TWO, b"hello"))
    world.run(1.1)
    assert one.keepalives == 1
    assert one.maps.associations()[0].state == "confirmed"


def test_full_maps_refuse_and_recover(layout: Layout) -> None:
    world, one, two = pair(layout)
    two.kill()
    two.maps.max_associations = 0
    two.start()
    one.send(two, packet(TO_TWO, b"hello"))
    world.run(3)
    assert two.sent("response") == 0
    two.kill()
    two.maps.max_associations = 4
    two.start()
    world.run(10)
    assert two.received == [packet(TO_TWO, b"hello")]


def test_many_rotations_keep_to_the_bounds(layout: Layout) -> None:
    world, one, two = pair(layout)
    for turn in range(30):
        side, other = ((one, two), (two, one))[turn % 2]
        side.exchanges.initiate(side.peer(other), "asked for")
        chat(world, one, two, 3, step=0.25)
        assert len(one.maps.slots) <= 3
        assert len(two.maps.slots) <= 3
    assert len(one.received) == len(two.received) == 30 * 12
    world.run(12)
    assert len(one.maps.slots) == len(two.maps.slots) == 1
