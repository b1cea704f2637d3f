# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf/admission.h: which messages of the exchange reach the daemon. brine.messages and
brine.keys say what is right."""

from __future__ import annotations

import os
import struct

import pytest

from brine.messages import EXCHANGE_KINDS, INITIATION, RESPONSE
from tests.bpf import packets
from tests.bpf.host import PORT, XDP_DROP, XDP_PASS, Host, boot_ns
from tests.bpf.receiver import OURS, PEERS_OWN, THEIRS
from tests.bpf.strangers import (
    AWAITED,
    HOUR,
    LISTED,
    MS,
    PASSED,
    SHOWN_LISTED,
    SHOWN_STRANGERS,
    STRANGER,
    STRANGERS,
    Strangers,
    key,
)

LATE = 5000 * MS  #: more than passes between two steps of a test
MAC1 = {INITIATION: 1352, RESPONSE: 1200}  #: where it begins


@pytest.fixture
def scene(host: Host) -> Strangers:
    return Strangers(host)


# What is admitted


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", EXCHANGE_KINDS)
def test_passed_unchanged(scene: Strangers, kind: str, family: int) -> None:
    for source in (THEIRS[family], STRANGER[family]):
        frame = scene.frame(scene.message(kind), source)
        run = scene.host.open(frame)
        assert (run.value, scene.host.stats()) == (XDP_PASS, PASSED)
        assert run.data == frame


@pytest.mark.parametrize("kind", EXCHANGE_KINDS)
def test_passed_in_a_vlan_and_padded(scene: Strangers, kind: str) -> None:
    message = scene.message(kind)
    for frame in (
        scene.receiver.frame(message, vlan=9),
        scene.receiver.frame(message) + bytes(9),
        scene.receiver.frame(message, 6, vlan=9) + os.urandom(7),
    ):
        assert scene.host.open(frame).value == XDP_PASS
        assert scene.host.stats() == PASSED


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_any_of_the_keys_will_do(scene: Strangers, kind: str) -> None:
    made = [os.urandom(32) for _ in range(4)]
    build = scene.initiation if kind == INITIATION else scene.response
    scene.accept(*made)
    assert [scene.send(build(key)) for key in made] == ["pass_exchange"] * 4
    scene.accept(*made[1:3])
    scene.wait(AWAITED)
    assert [scene.send(build(key)) for key in made] == [
        *("mac1", "pass_exchange", "pass_exchange", "mac1")
    ]
    scene.accept()
    assert [scene.send(build(key)) for key in made] == ["mac1"] * 4


def test_a_slot_without_a_key_accepts_nothing(scene: Strangers) -> None:
    scene.accept()
    assert scene.send(scene.initiation(bytes(32))) == "mac1"
    value = scene.host.loaded.struct("mac1_key")()
    value.key[:] = scene.mac1_key
    scene.host.write("mac1_keys", 0, value)  # but not in use
    assert scene.send(scene.initiation()) == "mac1"


# mac1


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_every_byte_that_mac1_covers_and_every_bit_of_it_counts(
    scene: Strangers, kind: str
) -> None:
    message = scene.message(kind)
    bits = [8 * at + at % 8 for at in range(4, MAC1[kind])]
    bits += range(8 * MAC1[kind], 8 * (MAC1[kind] + 16))
    for bit in bits:
        forged = bytearray(message)
        forged[bit // 8] ^= 1 << bit % 8
        named = kind == RESPONSE and 8 <= bit // 8 < 12
        assert scene.send(bytes(forged)) == ("unawaited" if named else "mac1"), bit
        assert scene.run.value == XDP_DROP
    assert not scene.charged()
    assert scene.send(message) == "pass_exchange"


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_mac1_covers_neither_itself_nor_mac2(scene: Strangers, kind: str) -> None:
    message = scene.message(kind)
    assert scene.send(message[:-16] + os.urandom(16)) == "pass_exchange"


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_mac1_of_another_message_or_for_another_host(scene: Strangers, kind: str) -> None:
    build = scene.initiation if kind == INITIATION else scene.response
    one, two = build(), build()
    at = MAC1[kind]
    assert scene.send(one[:at] + two[at:]) == "mac1"
    assert scene.send(build(os.urandom(32))) == "mac1"
    assert scene.send(one[:at] + bytes(32)) == "mac1"
    assert not scene.charged()


def test_forgeries_take_nothing_however_many(scene: Strangers) -> None:
    forged = scene.initiation(os.urandom(32))
    for _ in range(2000):
        scene.host.open(scene.frame(forged, THEIRS[4]))
    assert scene.host.stats() == {"open_mac1": 2000}
    assert not scene.charged()


def test_other_lengths_are_malformed(scene: Strangers) -> None:
    for kind in EXCHANGE_KINDS:
        message = scene.message(kind)
        for wrong in (message[:-1], message + b"\0", message[:33], message * 2):
            assert scene.send(wrong) == "malformed"
    assert not scene.charged()


def test_messages_from_or_into_the_mesh_are_refused_first(scene: Strangers) -> None:
    for kind in EXCHANGE_KINDS:
        assert scene.send(scene.message(kind), PEERS_OWN[4]) == "plaintext"
    assert not scene.charged()


def test_another_port_is_none_of_ours(scene: Strangers) -> None:
    datagram = packets.udp_packet(
        THEIRS[4], OURS[4], scene.initiation(bytes(32)), ports=(PORT, PORT + 1)
    )
    assert scene.host.open(packets.ethernet(datagram)).value == XDP_PASS
    assert scene.host.stats() == {"open_pass_other": 1}


# Answers


@pytest.mark.parametrize("index", [0, AWAITED ^ 1, AWAITED ^ 1 << 31, 2**32 - 1])
def test_answers_to_nothing(scene: Strangers, index: int) -> None:
    assert scene.send(scene.response(index=index)) == "unawaited"
    assert scene.send(scene.cookie(index)) == "unawaited"
    assert not scene.charged()


def test_no_answer_is_admitted_once_nobody_waits(scene: Strangers) -> None:
    scene.host.loaded.map("awaited").delete(struct.pack("<I", AWAITED))
    assert scene.send(scene.response()) == "unawaited"
    assert scene.send(scene.cookie()) == "unawaited"


def test_so_many_answers_to_each_initiation(scene: Strangers) -> None:
    other = AWAITED + 1
    scene.wait(other)
    _each, burst = scene.burst("ANSWER")
    for build in (scene.response, scene.cookie):
        found = [scene.send(build()) for _ in range(burst)]
        assert found == ["pass_exchange"] * burst
        words = _awaited(scene)
        words[0 if build == scene.response else 1] += HOUR
        scene.wait(AWAITED, *words)
        assert scene.send(build()) == "limited_answer"
        assert scene.send(build(index=other)) == "pass_exchange"
    # neither forged responses nor anything else takes from cookies, or from INITIATIONs
    assert scene.send(scene.initiation()) == "pass_exchange"


def test_answers_are_earned_back(scene: Strangers) -> None:
    each, burst = scene.burst("ANSWER")
    full = boot_ns() + burst * each
    for late, expected in ((LATE, "limited_answer"), (-each, "pass_exchange")):
        scene.wait(AWAITED, full + late, full + late)
        assert scene.send(scene.response()) == expected
        assert scene.send(scene.cookie()) == expected


def _awaited(scene: Strangers) -> list[int]:
    value = scene.host.loaded.map("awaited").lookup(struct.pack("<I", AWAITED))
    assert value is not None
    return list(struct.unpack("<QQ", value))


# INITIATIONs: a bucket for each source


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("where", ["listed", "stranger"])
def test_one_is_charged_to_its_source_and_to_one_bucket_of_the_host(
    scene: Strangers, where: str, family: int
) -> None:
    source = (THEIRS if where == "listed" else STRANGER)[family]
    mine, others = (LISTED, STRANGERS) if where == "listed" else (STRANGERS, LISTED)
    before = boot_ns()
    assert scene.send(scene.initiation(), source) == "pass_exchange"
    after = boot_ns()
    each, _burst = scene.burst("SOURCE")
    ((found, (spent, shown)),) = scene.sources().items()
    assert found == key(source)
    assert before + each <= spent <= after + each
    each, _burst = scene.burst(mine.removeprefix("BUDGET_"))
    assert before + each <= scene.budget(mine) <= after + each
    assert (shown, scene.budget(others)) == (0, 0)
    assert (scene.budget(SHOWN_LISTED), scene.budget(SHOWN_STRANGERS)) == (0, 0)


@pytest.mark.parametrize("source", [*THEIRS.values(), *STRANGER.values()])
def test_so_many_a_source(scene: Strangers, source: str) -> None:
    message = scene.initiation()
    _each, burst = scene.burst("SOURCE")
    assert [scene.send(message, source) for _ in range(burst)] == ["pass_exchange"] * burst
    ((found, (spent, _shown)),) = scene.sources().items()
    scene.spend_source(found, spent + HOUR)
    assert scene.send(message, source, 50001) == "limited_source"
    assert scene.send(message, source.replace("77", "78").replace("9", "8")) == "pass_exchange"


def test_a_source_earns_with_time(scene: Strangers) -> None:
    each, burst = scene.burst("SOURCE")
    source, message = key(STRANGER[4]), scene.initiation()
    for missing, expected in ((LATE, "limited_source"), (-each, "pass_exchange")):
        scene.spend_source(source, boot_ns() + burst * each + missing)
        assert scene.send(message, STRANGER[4]) == expected
    scene.spend_source(source, 0)  # unused since the boot: no more than the burst
    before = boot_ns()
    assert scene.send(message, STRANGER[4]) == "pass_exchange"
    assert scene.sources()[source][0] >= before + each


def test_whoever_has_an_ipv6_address_has_the_64_around_it(scene: Strangers) -> None:
    scene.spend_source(key("2001:db8:77:1::"), boot_ns() + HOUR)
    message = scene.initiation()
    for source in ("2001:db8:77:1::", "2001:db8:77:1:ffff:ffff:ffff:ffff", "2001:db8:77:1::9"):
        assert scene.send(message, source) == "limited_source"
    for source in ("2001:db8:77:2::1", "2001:db8:77::1", "2001:db8:77:3:0:1::"):
        assert scene.send(message, source) == "pass_exchange"


def test_ipv4_addresses_side_by_side_are_others(scene: Strangers) -> None:
    scene.spend_source(key("203.0.113.77"), boot_ns() + HOUR)
    message = scene.initiation()
    assert scene.send(message, "203.0.113.77") == "limited_source"
    for source in ("203.0.113.76", "203.0.113.78", "203.0.112.77"):
        assert scene.send(message, source) == "pass_exchange"


# INITIATIONs: buckets of the host


@pytest.mark.parametrize(
    ("flooded", "kept"), [(STRANGERS, THEIRS), (LISTED, STRANGER)], ids=["strangers", "listed"]
)
def test_strangers_and_peers_take_nothing_from_each_other(
    scene: Strangers, flooded: str, kept: dict[int, str]
) -> None:
    scene.empty(flooded)
    other = STRANGER if kept is THEIRS else THEIRS
    message = scene.initiation()
    for family in (4, 6):
        assert scene.send(message, other[family]) == "limited_host"
        assert scene.send(message, kept[family]) == "pass_exchange"


def test_sources_that_the_host_does_not_admit_are_not_remembered(scene: Strangers) -> None:
    scene.empty(STRANGERS)
    for number in range(200):
        assert scene.send(scene.initiation(), f"203.0.113.{number}") == "limited_host"
    assert not scene.sources()


@pytest.mark.parametrize("name", ["LISTED", "STRANGERS"])
def test_the_host_admits_its_burst_from_many_sources_and_earns_with_time(
    scene: Strangers, name: str
) -> None:
    each, burst = scene.burst(name)
    peers = [f"10.{number >> 8}.{number & 255}.1" for number in range(8)]
    if name == "LISTED":
        for peer in peers[:6]:
            scene.host.list_endpoint(peer, 2)
    sources = peers[:6]
    message = scene.initiation()
    full = boot_ns() + burst * each
    scene.spend(f"BUDGET_{name}", full + LATE)
    assert scene.send(message, sources[0]) == "limited_host"
    scene.spend(f"BUDGET_{name}", full - each)  # one is left, or more by now
    assert scene.send(message, sources[1]) == "pass_exchange"
    scene.spend(f"BUDGET_{name}", 0)
    before = boot_ns()
    for source in sources:
        assert scene.send(message, source) == "pass_exchange"
    assert scene.budget(f"BUDGET_{name}") >= before + len(sources) * each


def test_a_flood_is_cut_to_the_burst(scene: Strangers) -> None:
    """No planted times: from as many addresses as there are packets."""
    each, burst = scene.burst("STRANGERS")
    message = scene.initiation()
    before = boot_ns()
    for number in range(3 * burst):
        scene.host.open(scene.frame(message, f"10.1.{number >> 8}.{number & 255}"))
    earned = (boot_ns() - before) // each + 1
    stats = scene.host.stats()
    assert burst <= stats["open_pass_exchange"] <= burst + earned
    assert stats["open_pass_exchange"] + stats.get("open_limited_host", 0) == 3 * burst
    assert len(scene.sources()) == stats["open_pass_exchange"]
