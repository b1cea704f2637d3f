# SPDX-License-Identifier: GPL-3.0-or-later
"""`seal` by table: a packet of the stack, and what must become of it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from tests.bpf import packets
from tests.bpf.host import PORT, TC_REDIRECT, TC_SHOT, Host, Keys, boot_ns, on_cpu
from tests.bpf.receiver import INSIDE, NOBODYS, PEERS_OWN, THEIRS
from tests.bpf.sender import ASSOCIATION, OTHER_PEER, PEER, REMOTE, Sender

KEEPALIVE_NEXT_HEADER = 253


@pytest.fixture(params=[4, 6], ids=["over IPv4", "over IPv6"])
def scene(host: Host, request: pytest.FixtureRequest) -> Sender:
    return Sender(host, request.param)


def keepalive(
    peer: int,
    *,
    payload: bytes | None = None,
    next_header: int = KEEPALIVE_NEXT_HEADER,
    destination: str = "::",
) -> bytes:
    """What the daemon writes to brine0."""
    if payload is None:
        payload = struct.pack("<II", peer, 0)
    return packets.ipv6("fe80::1", destination, payload, next_header=next_header)


# What is sealed


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 15, 16, 35, 36, 37, 100, 1000, 1372, 1392, 3000])
def test_sealed_byte_for_byte(scene: Sender, family: int, size: int) -> None:
    for counter in range(2):
        text = scene.inner(family, os.urandom(size))
        sealed = scene.seal(text)
        assert sealed == scene.expected(text, sealed, counter=counter)


INNERS: dict[str, Callable[[], bytes]] = {
    "ICMP": lambda: packets.ip(INSIDE[4], PEERS_OWN[4], bytes(8), packets.ICMP, 0),
    "TCP": lambda: packets.ip(INSIDE[4], PEERS_OWN[4], bytes(20), packets.TCP, 0),
    "TCP cut short": lambda: packets.ip(INSIDE[4], PEERS_OWN[4], bytes(3), packets.TCP, 0),
    "a bare IPv4 header": lambda: packets.ip(INSIDE[4], PEERS_OWN[4], b"", 99, 0),
    "a bare IPv6 header": lambda: packets.ip(INSIDE[6], PEERS_OWN[6], b"", 59, 0),
    "options": lambda: packets.ipv4(INSIDE[4], PEERS_OWN[4], b"", options=bytes(40)),
    "a fragment": lambda: packets.ipv4(INSIDE[4], PEERS_OWN[4], b"x" * 8, fragment=0x2001),
    "a network behind the peer": lambda: packets.udp_packet(INSIDE[4], "172.16.8.3", b""),
    "a foreign source": lambda: packets.udp_packet("192.168.1.1", PEERS_OWN[4], b""),
    "an extension header": lambda: packets.ipv6(
        INSIDE[6], PEERS_OWN[6], b"\x3b\0\1\4\0\0\0\0", next_header=0
    ),
}


@pytest.mark.parametrize("name", INNERS)
def test_sealed_whatever_it_carries(scene: Sender, name: str) -> None:
    text = INNERS[name]()
    sealed = scene.seal(text)
    assert sealed == scene.expected(text, sealed, counter=0)


@pytest.mark.parametrize("padding", [1, 6, 18, 46, 59, 60, 61, 79, 80, 81, 200])
def test_padding_of_the_frame_is_not_sealed(scene: Sender, padding: int) -> None:
    text = scene.inner(scene.family)
    sealed = scene.seal(text, behind=b"\xaa" * padding)
    assert sealed == scene.expected(text, sealed, counter=0)


def test_a_keepalive_request_becomes_an_empty_message(scene: Sender) -> None:
    for counter in range(2):
        sealed = scene.seal(keepalive(PEER))
        assert sealed == scene.expected(b"", sealed, counter=counter)
    state = scene.host.read("peer_states", "peer_state", PEER)
    assert 0 < state.last_sent <= boot_ns()
    assert state.last_data_sent == 0
    assert not any(scene.host.value("traffic", PEER))


def test_a_packet_is_noted(scene: Sender) -> None:
    before = boot_ns()
    text = scene.inner()
    scene.seal(text)
    state = scene.host.read("peer_states", "peer_state", PEER)
    assert before <= state.last_sent == state.last_data_sent <= boot_ns()
    assert state.last_received == state.last_data_received == 0
    words = list(memoryview(scene.host.value("traffic", PEER)).cast("Q"))
    assert [sum(words[field::4]) for field in range(4)] == [1, len(text), 0, 0]


@pytest.mark.parametrize("cpu", range(min(os.cpu_count() or 1, 4)))
def test_each_cpu_has_a_lane_and_counts_it_alone(host: Host, cpu: int) -> None:
    scene = Sender(host)
    for number in range(3):
        sealed = scene.seal(scene.inner(), lane=cpu)
        header = struct.unpack_from("<BBBBIQ", sealed, 28)
        assert header == (4, 0, 0, cpu % 16, REMOTE, number)
        assert scene.text(sealed) == scene.inner()


def test_the_last_counter(scene: Sender) -> None:
    host = scene.host
    host.set_counter(ASSOCIATION, 2**40 - 1, lane=0)
    sealed = scene.seal(scene.inner())
    assert sealed == scene.expected(scene.inner(), sealed, counter=2**40 - 1)
    for _ in range(3):
        with on_cpu(0):
            assert host.seal(packets.ethernet(scene.inner())).value == TC_SHOT
        assert host.stats() == {"seal_exhausted": 1}
        assert host.events() == [("EVENT_PUNT_SEND", PEER, 0, scene.inner())]


def test_the_outer_port_tells_flows_apart_and_nothing_else(scene: Sender) -> None:
    at = 20 if scene.family == 4 else 40

    def port(text: bytes) -> int:
        found: int = struct.unpack_from("!H", scene.seal(text), at)[0]
        return found

    by_flow = {source: port(scene.inner(ports=(source, 80))) for source in range(1000, 1064)}
    assert all(0xC000 <= value <= 0xFFFF for value in by_flow.values())
    assert len(set(by_flow.values())) > 60
    assert port(scene.inner(4, b"other text", ports=(1000, 80))) == by_flow[1000]
    assert port(scene.inner(6, ports=(1000, 80))) != by_flow[1000]
    # A secret of its own maps the same flow elsewhere.
    config = scene.host.read("config", "config", 0)
    config.flow_secret ^= 0x5555
    scene.host.write("config", 0, config)
    changed = sum(port(scene.inner(ports=(s, 80))) != by_flow[s] for s in by_flow)
    assert changed > 60


def test_fragments_of_one_packet_share_a_port(host: Host) -> None:
    scene = Sender(host)
    ports = set()
    for fragment, payload in ((0x2000, b"\1\2\3\4rest"), (0x0001, b"\5\6\7\x08more")):
        text = packets.ipv4(INSIDE[4], PEERS_OWN[4], payload, fragment=fragment)
        ports.add(scene.seal(text)[20:22])
    assert len(ports) == 1


def test_no_key_stays_in_the_work_area(host: Host) -> None:
    scene = Sender(host)
    subkey = bytes(host.read("boxes", "box", ASSOCIATION * 8).subkey)
    assert any(subkey)
    scene.seal(scene.inner())
    left = host.value("seal_areas", 0)
    for at in range(0, 32, 4):
        assert subkey[at : at + 4] not in left


# What is not sealed dies. Nothing leaves in the clear. (Runts: test_wire.py; the kernel's
# test run does not take them.)

Change = Callable[[Sender], None]


def refused(scene: Sender, frame: bytes, reason: str, context: bytes | None = None) -> None:
    run = scene.host.seal(frame, context)
    assert scene.host.stats() == {reason: 1}
    assert run.value == TC_SHOT


@pytest.mark.parametrize(
    "destination",
    [
        *[*NOBODYS.values(), *INSIDE.values(), "203.0.113.1", "10.77.255.255", "224.0.0.251"],
        *["255.255.255.255", "2001:db8::1", "ff02::1", "fe80::2", "::", "::1"],
    ],
)
def test_no_route(scene: Sender, destination: str) -> None:
    source = INSIDE[6 if ":" in destination else 4]
    frame = packets.ethernet(packets.udp_packet(source, destination, b"x"))
    refused(scene, frame, "seal_no_route")
    assert scene.host.events() == []


NOT_IP = {
    "ARP": packets.ethernet(bytes(28), ethertype=packets.ETH_P_ARP),
    "IPv4 said to be IPv6": packets.ethernet(
        packets.udp_packet(INSIDE[4], PEERS_OWN[4], bytes(20)), ethertype=packets.ETH_P_IPV6
    ),
    "IPv6 said to be IPv4": packets.ethernet(
        packets.udp_packet(INSIDE[6], PEERS_OWN[6], b"x"), ethertype=packets.ETH_P_IP
    ),
    "IPv4 cut short": packets.ethernet(packets.udp_packet(INSIDE[4], PEERS_OWN[4], b"x"))[:-1],
    "IPv6 cut short": packets.ethernet(packets.udp_packet(INSIDE[6], PEERS_OWN[6], b"x"))[:-1],
    "version 0": packets.ethernet(bytes(40), ethertype=packets.ETH_P_IP),
    "a header length of 16": packets.ethernet(b"\x44\0\0\x28" + bytes(36)),
    "a length below the header's": packets.ethernet(
        packets.ipv4(INSIDE[4], PEERS_OWN[4], b"", length=19)
    ),
    "to IPv4 in IPv6 clothes": packets.ethernet(
        packets.udp_packet(INSIDE[6], f"::ffff:{PEERS_OWN[4]}", b"x")
    ),
    "in a VLAN": packets.ethernet(packets.udp_packet(INSIDE[4], PEERS_OWN[4], b"x"), vlan=1),
}


@pytest.mark.parametrize("name", NOT_IP)
def test_not_ip(scene: Sender, name: str) -> None:
    refused(scene, NOT_IP[name], "seal_not_ip")


def test_segments_to_be_are_refused(scene: Sender) -> None:
    context = bytearray(192)  # struct __sk_buff
    struct.pack_into("<I", context, 176, 1000)  # gso_size
    frame = packets.ethernet(scene.inner(4, bytes(2000)))
    refused(scene, frame, "seal_too_big", bytes(context))


def without_endpoint(scene: Sender) -> None:
    scene.host.peer(PEER, None)


def without_source(scene: Sender) -> None:
    if scene.family == 4:
        scene.host.configure(source4=None)
    else:
        scene.host.configure(source6=None)


@pytest.mark.parametrize("change", [without_endpoint, without_source])
def test_no_endpoint(scene: Sender, change: Change) -> None:
    change(scene)
    refused(scene, packets.ethernet(scene.inner()), "seal_no_endpoint")


@pytest.mark.parametrize(
    "request_",
    [
        keepalive(7),
        keepalive(PEER, payload=struct.pack("<II", PEER, 0) + b"\0"),
        keepalive(PEER, payload=b"\1\0\0\0\0\0\0"),
        keepalive(1000),
        keepalive(2**32 - 1),
        keepalive(PEER, next_header=254),
        keepalive(PEER, destination="fe80::2"),
    ],
    ids=["no association", "long", "short", "out of range", "far", "next header", "destination"],
)
def test_what_is_no_keepalive_request_goes_nowhere(scene: Sender, request_: bytes) -> None:
    assert scene.host.seal(packets.ethernet(request_)).value == TC_SHOT
    (reason,) = scene.host.stats()
    assert reason in {"seal_no_route", "seal_no_box"}
    assert scene.host.events() == []


# No box: the packet goes to the daemon


def pending(scene: Sender) -> None:
    association = scene.host.read("associations", "association", ASSOCIATION)
    association.state = scene.host.loaded.enum("association_state")["ASSOCIATION_PENDING"]
    scene.host.write("associations", ASSOCIATION, association)


def claimed(scene: Sender) -> None:
    association = scene.host.read("associations", "association", ASSOCIATION)
    association.state = scene.host.loaded.enum("association_state")["ASSOCIATION_CLAIMED"]
    scene.host.write("associations", ASSOCIATION, association)


def erased(scene: Sender) -> None:
    scene.host.erase(ASSOCIATION)


def unpublished(scene: Sender) -> None:
    scene.host.zero("peer_states")


def dangling(scene: Sender) -> None:
    """`sending` outlives the association, whose slot serves another peer by now."""
    box = scene.host.read("boxes", "box", ASSOCIATION * 8)
    box.peer = OTHER_PEER
    scene.host.write("boxes", ASSOCIATION * 8, box)


def wiping(scene: Sender) -> None:
    box = scene.host.read("boxes", "box", ASSOCIATION * 8)
    box.state = scene.host.loaded.enum("box_state")["BOX_CLAIMED"]
    scene.host.write("boxes", ASSOCIATION * 8, box)


def moved_on(scene: Sender) -> None:
    """The sending pair has no box yet."""
    association = scene.host.read("associations", "association", ASSOCIATION)
    association.ratchet.send_own = 1
    scene.host.write("associations", ASSOCIATION, association)


def other_generation(scene: Sender) -> None:
    """The slot of the sending pair holds the pair two generations before."""
    association = scene.host.read("associations", "association", ASSOCIATION)
    association.ratchet.send_own = 2
    scene.host.write("associations", ASSOCIATION, association)


def beyond(scene: Sender) -> None:
    state = scene.host.read("peer_states", "peer_state", PEER)
    state.sending = 2**31
    scene.host.write("peer_states", PEER, state)


@pytest.mark.parametrize(
    "change",
    [pending, claimed, erased, unpublished, dangling, wiping, moved_on, other_generation, beyond],
)
def test_no_box_is_punted_whole(scene: Sender, change: Change) -> None:
    change(scene)
    text = scene.inner(6, b"not in the clear")
    refused(scene, packets.ethernet(text) + b"padding", "seal_no_box")
    assert scene.host.events() == [("EVENT_PUNT_SEND", PEER, 0, text)]


def test_expired_is_punted_whole(host: Host) -> None:
    scene = Sender(host)
    host.install(5, PEER, Keys(), index=77, remote=88, send_seconds=-0.001)
    host.publish(5)
    refused(scene, packets.ethernet(scene.inner()), "seal_expired")
    assert host.events() == [("EVENT_PUNT_SEND", PEER, 0, scene.inner())]


def test_punting_is_limited_by_peer(scene: Sender) -> None:
    host = scene.host
    erased(scene)
    host.route("10.77.0.50/32", OTHER_PEER)
    frame = packets.ethernet(scene.inner())
    for _ in range(400):
        assert host.seal(frame).value == TC_SHOT
    stats = host.stats()
    assert stats["seal_no_box"] + stats["seal_no_box_limited"] == 400
    assert 128 <= stats["seal_no_box"] < 200
    assert len(host.events()) == stats["seal_no_box"]
    # Another peer's packets have a bucket of their own.
    host.seal(packets.ethernet(packets.udp_packet(INSIDE[4], "10.77.0.50", b"")))
    assert host.stats() == {"seal_no_box": 1}
    assert [event[1] for event in host.events()] == [OTHER_PEER]


def test_a_full_ring_drops(scene: Sender) -> None:
    host = scene.host
    erased(scene)
    frame = packets.ethernet(scene.inner(4, bytes(3000)))
    for _ in range(600):
        host.zero("limits")
        assert host.seal(frame).value == TC_SHOT
    stats = host.stats()
    assert stats["seal_no_box_limited"] > 0
    assert len(host.events()) == stats["seal_no_box"]


def test_the_endpoint_follows_the_table(scene: Sender) -> None:
    """A change of configuration reaches the next packet."""
    scene.host.peer(PEER, ("203.0.113.77", PORT + 1))
    with on_cpu(0):
        run = scene.host.seal(packets.ethernet(scene.inner()))
    assert run.value == TC_REDIRECT
    assert run.data[30:34] == bytes([203, 0, 113, 77])
    assert run.data[36:38] == struct.pack("!H", PORT + 1)
    assert THEIRS[4] != "203.0.113.77"
