# SPDX-License-Identifier: GPL-3.0-or-later
"""`open` by table: a frame, and what must become of it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.bpf import packets
from tests.bpf.host import PORT, XDP_DROP, XDP_PASS, XDP_REDIRECT, Host, Keys, boot_ns
from tests.bpf.open_cases import DROPPED, PASSED, Case
from tests.bpf.receiver import (
    ASSOCIATION,
    INDEX,
    INSIDE,
    NOBODYS,
    OURS,
    PEER,
    PEERS_OWN,
    THEIRS,
    Receiver,
)


@pytest.fixture
def scene(host: Host) -> Receiver:
    return Receiver(host)


# What is delivered

DELIVERED: dict[str, Callable[[Receiver, bytes, int], bytes]] = {
    "plain": lambda s, text, outer: s.frame(s.data(text), outer),
    "in a VLAN": lambda s, text, outer: s.frame(s.data(text), outer, vlan=7),
    "padded by Ethernet": lambda s, text, outer: s.frame(s.data(text), outer) + bytes(40),
    "padded with noise": lambda s, text, outer: s.frame(s.data(text), outer) + os.urandom(3),
    "keyed, of a known pair": lambda s, text, outer: s.frame(s.data_keyed(text), outer),
    "on the last lane": lambda s, text, outer: s.frame(s.data(text, lane=15), outer),
    "of the last counter": lambda s, text, outer: s.frame(s.data(text, counter=2**40 - 1), outer),
    "from any port": lambda s, text, outer: s.frame(s.data(text), outer, ports=(1, PORT)),
}


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("name", DELIVERED)
def test_delivered(scene: Receiver, name: str, inner: int, outer: int) -> None:
    text = scene.inner(inner)
    run = scene.host.open(DELIVERED[name](scene, text, outer))
    assert scene.host.stats() == {"open_ok": 1}
    assert run.value == XDP_REDIRECT
    assert run.data == scene.delivered(text)


@pytest.mark.parametrize("size", [20, 21, 40, 63, 64, 65, 1280, 1420, 1460, 3000, 8940, 9216])
def test_delivered_at_every_size(scene: Receiver, size: int) -> None:
    text = packets.ipv4(PEERS_OWN[4], INSIDE[4], os.urandom(size - 20), protocol=99)
    run = scene.host.open(scene.frame(scene.data(text)))
    assert (run.value, scene.host.stats()) == (XDP_REDIRECT, {"open_ok": 1})
    assert run.data == scene.delivered(text)


def test_delivered_with_inner_options_and_fragments(scene: Receiver) -> None:
    texts = [
        packets.ipv4(PEERS_OWN[4], INSIDE[4], b"x" * 9, options=b"\1\1\1\0" * 3),
        packets.ipv4(PEERS_OWN[4], INSIDE[4], b"x" * 16, fragment=0x2000),
        packets.ipv4(PEERS_OWN[4], INSIDE[4], b"x" * 16, fragment=0x0002),
        packets.ipv6(PEERS_OWN[6], INSIDE[6], b"\x3a\0\0\0" + b"x" * 12, next_header=44),
        packets.ipv6(PEERS_OWN[6], INSIDE[6], b"", next_header=59),
    ]
    for counter, text in enumerate(texts):
        run = scene.host.open(scene.frame(scene.data(text, counter=counter)))
        assert (run.value, scene.host.stats()) == (XDP_REDIRECT, {"open_ok": 1}), counter
        assert run.data == scene.delivered(text)


def test_delivered_from_a_network_behind_the_peer(scene: Receiver) -> None:
    text = packets.udp_packet("172.16.8.77", INSIDE[4], b"")
    assert scene.host.open(scene.frame(scene.data(text))).value == XDP_REDIRECT


# What goes to the stack, and what is dropped


@pytest.mark.parametrize("case", DROPPED, ids=lambda case: case.name)
def test_dropped(scene: Receiver, case: Case) -> None:
    run = scene.host.open(case.frame(scene))
    assert scene.host.stats() == {case.stat: 1}
    assert run.value == XDP_DROP


@pytest.mark.parametrize("case", PASSED, ids=lambda case: case.name)
def test_passed_unchanged(scene: Receiver, case: Case) -> None:
    frame = case.frame(scene)
    run = scene.host.open(frame)
    assert scene.host.stats() == {case.stat: 1}
    assert run.value == XDP_PASS
    assert run.data == frame


def test_nothing_is_a_mesh_address_where_no_route_says_so(host: Host) -> None:
    host.configure()
    frame = packets.ethernet(packets.udp_packet(PEERS_OWN[4], INSIDE[4], b""))
    assert host.open(frame).value == XDP_PASS


def test_a_default_route_through_the_mesh_leaves_the_underlay_usable(scene: Receiver) -> None:
    outside = scene.host.loaded.enum("route_value")["ROUTE_OUTSIDE"]
    scene.host.route("0.0.0.0/0", PEER | outside)
    scene.host.route("::/0", PEER | outside)
    for source, destination in (("203.0.113.5", OURS[4]), ("2001:db8:5::5", OURS[6])):
        frame = packets.ethernet(packets.udp_packet(source, destination, b"", ports=(22, 22)))
        assert scene.host.open(frame).value == XDP_PASS
    spoofed = packets.ethernet(packets.udp_packet(NOBODYS[4], OURS[4], b"", ports=(22, 22)))
    assert scene.host.open(spoofed).value == XDP_DROP
    text = packets.udp_packet("203.0.113.5", INSIDE[4], b"from the Internet")
    assert scene.host.open(scene.frame(scene.data(text))).value == XDP_REDIRECT


# Unknown index from a listed source: a restart on our side


def test_unknown_index_of_a_listed_source_is_passed_at_a_limited_rate(scene: Receiver) -> None:
    scene.host.list_endpoint(THEIRS[4], PEER)
    frame = scene.frame(packets.data(bytes(32), bytes(16), 0xDEAD, scene.inner()))
    values = [scene.host.open(frame).value for _ in range(400)]
    assert set(values[:128]) == {XDP_PASS}  # the burst
    stats = scene.host.stats()
    assert stats["open_pass_unknown"] + stats["open_unknown_index"] == 400
    assert 128 <= stats["open_pass_unknown"] < 200  # one more every 10 ms
    assert scene.host.open(scene.frame(scene.data(scene.inner()))).value == XDP_REDIRECT


def test_unknown_indices_are_limited_for_all_peers_together(scene: Receiver) -> None:
    number = scene.host.loaded.enum("budget")["BUDGET_UNKNOWN"]
    scene.host.list_endpoint(THEIRS[4], PEER)
    frame = scene.frame(packets.data(bytes(32), bytes(16), 0xDEAD, scene.inner()))
    for late, expected in ((3600, "open_unknown_index"), (0, "open_pass_unknown")):
        until = boot_ns() + 511 * 2_000_000 + late * 10**9  # one is left, but for `late`
        scene.host.loaded.map("budgets").update(
            number.to_bytes(4, "little"), until.to_bytes(8, "little")
        )
        scene.host.open(frame)
        assert scene.host.stats() == {expected: 1}


def test_what_comes_in_does_not_use_up_what_may_go_out(scene: Receiver) -> None:
    """Whoever forges the peer's address must not keep our packets from the daemon."""
    scene.host.list_endpoint(THEIRS[4], PEER)
    frame = scene.frame(packets.data(bytes(32), bytes(16), 0xDEAD, scene.inner()))
    for _ in range(300):
        scene.host.open(frame)
    scene.host.stats()
    scene.host.seal(packets.ethernet(packets.udp_packet(INSIDE[4], PEERS_OWN[4], b"ours")))
    assert scene.host.stats() == {"seal_no_box": 1}


# Forgeries


def test_every_bit_of_a_message_counts(scene: Receiver) -> None:
    message = scene.data(packets.ipv4(PEERS_OWN[4], INSIDE[4], b"abc", protocol=99), counter=7)
    reasons: dict[str, int] = {}
    for bit in range(len(message) * 8):
        forged = bytearray(message)
        forged[bit // 8] ^= 1 << bit % 8
        run = scene.host.open(scene.frame(bytes(forged)))
        assert run.value == XDP_DROP, bit
        (reason,) = scene.host.stats()
        reasons[reason] = reasons.get(reason, 0) + 1
    assert reasons == {
        # type: to 5 the message is too short, else unknown; lane >= 16: 4 bits; counter: 24
        "open_malformed": 8 + 4 + 24,
        "open_no_box": 16,
        "open_unknown_index": 32,
        # lane below 16: 4 bits; counter below 2^40: 40; the tag; the text
        "open_forged": 4 + 40 + 128 + 23 * 8,
    }
    assert scene.host.state(ASSOCIATION) == "pending"
    assert scene.host.read("peer_states", "peer_state", PEER).last_received == 0
    # nor did any of them move the window: the true one is still welcome
    assert scene.host.open(scene.frame(message)).value == XDP_REDIRECT


def test_every_bit_of_a_keyed_message_counts(scene: Receiver) -> None:
    """Of a known pair the announced key is not looked at, but the rest is."""
    message = scene.data_keyed(b"", counter=7)
    for bit in range(len(message) * 8):
        if 16 * 8 <= bit < 56 * 8:
            continue
        forged = bytearray(message)
        forged[bit // 8] ^= 1 << bit % 8
        scene.host.open(scene.frame(bytes(forged)))
        assert "open_keepalive" not in scene.host.stats(), bit
    scene.host.open(scene.frame(message))
    assert scene.host.stats() == {"open_keepalive": 1}


def test_a_message_does_not_open_under_another_association(scene: Receiver) -> None:
    other = Keys()
    scene.host.install(5, 1, other, index=INDEX + 1, remote=9, initiated=False)
    message = bytearray(scene.data(scene.inner()))
    message[4:8] = (INDEX + 1).to_bytes(4, "little")
    assert scene.host.open(scene.frame(bytes(message))).value == XDP_DROP
    assert scene.host.stats() == {"open_forged": 1}
