# SPDX-License-Identifier: GPL-3.0-or-later
"""The ratchet on real hosts: keys are replaced under traffic, which goes on."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from brine import probe
from brine.libbpf import Map
from brine.maps import Maps
from brine.records import Ratchet
from tests.integration.conftest import Make
from tests.integration.hosts import Host, eventually
from tests.integration.ledger import Ledger
from tests.integration.namespaces import Switch
from tests.integration.test_mesh import confirmed

# A key is replaced when the one before it is gone: 10 s after its proof, and 10 s more.
SECONDS = 46
KILLS = 100
GENERATIONS = 4  # that each side makes meanwhile, at least
PATIENCE = 600  # s


def ratchet(host: Host) -> Ratchet:
    """Of its only association."""
    with Maps.of(host.config) as maps:
        (found,) = maps.associations()
    return found.ratchet


def settled_at(host: Host, pair: tuple[int, int]) -> bool:
    """data goes out on that pair of keys, and both are the newest"""
    found = ratchet(host)
    return found.settled and found.newest == pair


def drops(host: Host) -> dict[str, int]:
    return {
        reason: packets
        for reason, packets in host.status()["drops"].items()
        if packets and reason != "seal_no_route"  # the stack's own multicast
    }


def test_keys_are_replaced_under_traffic(make: Make, switch: Switch) -> None:
    """Both ends rotate at the same time, again and again: their rotations cross. One daemon is
    killed on the way."""
    one, two = make(2)
    for host in (one, two):
        host.stop()
        host.rekey_interval = 1
        host.start()
    one.reach(two)
    eventually(lambda: one.association(two) is not None)
    index = one.index(two)
    before = {host: drops(host) for host in (one, two)}
    ledger = Ledger((one, two), switch)
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(two.probe_receive, SECONDS + 60, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, SECONDS)
        eventually(lambda: ratchet(one).own_current == ratchet(two).own_current == 1)
        two.kill()
        two.start()
        sender.result()
        (run,) = receiver.result()["runs"]
    assert (run["lost"], run["duplicated"]) == (0, 0), str(ledger)
    assert one.index(two) == index
    for host, peer in ((one, two), (two, one)):
        found = ratchet(host)
        assert found.own_current >= 2
        assert found.peer_current == ratchet(peer).own_current
        assert not found.unproved
        assert drops(host).keys() <= before[host].keys() | {"seal_no_box", "open_no_box"}


def test_killed_a_hundred_times_while_keys_turn(make: Make, switch: Switch) -> None:
    """Either daemon, at any moment: before a key is announced, adopted, erased. Data flows both
    ways all along."""
    one, two = make(2)
    for host in (one, two):
        host.stop()
        host.rekey_interval = 1
        host.start()
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    index = one.index(two)
    rng = random.Random(5)
    kills = dict.fromkeys((one, two), 0)
    ending: list[int] = []
    deadline = time.monotonic() + PATIENCE

    def turned() -> bool:
        return all(ratchet(host).own_current >= GENERATIONS for host in (one, two))

    def torment(host: Host) -> None:
        while kills[host] < KILLS // 2 or not turned():
            assert time.monotonic() < deadline, {host.name: ratchet(host) for host in kills}
            time.sleep(rng.uniform(0, 3))  # of which a daemon needs some tenths to start
            host.kill()
            host.spawn()
            kills[host] += 1

    ledger = Ledger((one, two), switch)
    with ThreadPoolExecutor(6) as pool:
        receivers = [pool.submit(host.probe_receive, 2 * PATIENCE, 1) for host in (one, two)]
        eventually(lambda: one.receives() and two.receives())
        senders = [
            pool.submit(host.inside, probe.send, [to.inner4], PATIENCE, 2.0, probe.PORT, ending)
            for host, to in ((one, two), (two, one))
        ]
        killing = [pool.submit(torment, host) for host in (one, two)]
        try:
            for each in killing:
                each.result()
        finally:
            ending.append(1)
        for sender in senders:
            sender.result()
        runs = [run for receiver in receivers for run in receiver.result()["runs"]]
    print(kills.values(), [ratchet(host) for host in kills], runs)
    assert sum(kills.values()) >= KILLS
    assert [run["complete"] for run in runs] == [True, True]
    assert [(run["lost"], run["duplicated"]) for run in runs] == [(0, 0)] * 2, str(ledger)
    for host in (one, two):
        host.kill()
        host.start()
    eventually(lambda: all(ratchet(host).settled for host in (one, two)))
    assert one.index(two) == index
    assert "Traceback" not in one.log + two.log


def test_a_key_on_demand(make: Make, switch: Switch) -> None:
    """Of both sides at once, so that they cross; asked for again, it is remembered."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    index = one.index(two)
    ledger = Ledger((one, two), switch)
    with ThreadPoolExecutor(4) as pool:
        receiver = pool.submit(two.probe_receive, 120, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, 45)
        time.sleep(12)  # the key of the exchange rests that long
        answers = list(pool.map(lambda host: host.ask("rotate"), (one, two)))
        assert answers == [
            {"made": [name], "later": [], "started": []} for name in (two.name, one.name)
        ]
        eventually(lambda: all(settled_at(host, (1, 1)) for host in (one, two)))
        assert one.ask("rotate", peer=two.name)["later"] == [two.name]
        eventually(lambda: settled_at(one, (2, 1)) and settled_at(two, (1, 2)), 60)
        sender.result()
        (run,) = receiver.result()["runs"]
    assert (run["lost"], run["duplicated"]) == (0, 0), str(ledger)
    assert one.index(two) == index
    assert two.ask("rotate", exchange=True)["started"] == [one.name]
    eventually(lambda: confirmed(one, two) and one.index(two) != index)


def test_a_key_for_nobody_is_an_exchange(make: Make) -> None:
    one, two = make(2)
    assert one.ask("rotate") == {"made": [], "later": [], "started": []}
    assert one.ask("rotate", peer=two.name) == {"made": [], "later": [], "started": [two.name]}
    eventually(lambda: confirmed(one, two))


def draw(host: Host, drawn: int) -> None:
    """As if so many packets had been sealed on each lane of the sending pair."""
    with Maps.of(host.config) as maps:
        (found,) = maps.associations()
        pair = (found.ratchet.send_own & 1) * 2 + (found.ratchet.send_peer & 1)
        counters: Any = maps.layout.counters()
        for lane in counters.lane:
            lane.next = drawn
        slot = found.number * maps.layout.enum("map_size")["PAIRS"] + pair
        path = str(maps.directory / "counters")
    with contextlib.closing(Map.pinned(path)) as pinned:
        pinned.update(slot.to_bytes(4, "little"), bytes(counters))


def test_many_packets_wear_a_key_out(make: Make, switch: Switch) -> None:
    """The next is made long before the end, and nothing is lost."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    index = one.index(two)
    draw(one, (1 << 36) - 5)
    ledger = Ledger((one, two), switch)
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(two.probe_receive, 160, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, 45)
        eventually(lambda: settled_at(one, (1, 0)), 80)
        sender.result()
        (run,) = receiver.result()["runs"]
    assert (run["lost"], run["duplicated"]) == (0, 0), str(ledger)
    assert settled_at(two, (0, 1))
    assert one.index(two) == index
    with Maps.of(one.config) as maps:
        (found,) = maps.associations()
        assert maps.drawn(found.number, 1, 0) < 1 << 20


def test_at_the_last_counter_nothing_leaves_before_an_exchange(make: Make, switch: Switch) -> None:
    """And the packets that find none wait for it."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    before = one.association(two)
    assert before is not None
    time.sleep(2.5)  # a packet that is punted just after an exchange was under way before it
    with Maps.of(two.config) as maps:
        (held,) = maps.associations()
    draw(one, 1 << 40)
    with switch.listen(one.port) as capture:
        assert one.ping(two.inner4, 20) is not None
    sealed = [
        frame[42:]
        for frame in capture.frames
        if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[42] in (4, 5)
    ]
    assert sealed
    index = held.local_index.to_bytes(4, "little")
    assert not [message for message in sealed if message[4:8] == index]
    status = one.status()["drops"]
    assert status["seal_exhausted"] > 0
    assert two.status()["drops"]["open_malformed"] == 0
    eventually(lambda: confirmed(one, two))
    after = one.association(two)
    assert after is not None
    assert after["local_index"] != before["local_index"]
    assert 'reason="traffic"' in one.log or "reason=traffic" in one.log


def test_a_quiet_mesh_keeps_its_keys(make: Make) -> None:
    """Without data there is nothing to protect anew."""
    one, two = make(2)
    one.reach(two)
    two.stop()
    two.rekey_interval = 1
    two.start()
    first = ratchet(two)
    eventually(lambda: ratchet(two).own_current == 1, 30)  # the ping came after the key
    settled = ratchet(two)
    assert first.own_current == 0
    eventually(lambda: not ratchet(two).own_previous, 40)
    assert ratchet(two).own_current == settled.own_current
