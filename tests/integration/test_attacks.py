# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attacker on the underlay can do to data: nothing but keep it from arriving."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.bpf import packets
from tests.integration.conftest import Make
from tests.integration.hosts import PORT, Host, eventually, roster_of
from tests.integration.namespaces import Switch
from tests.integration.test_mesh import confirmed
from tests.integration.wire import (
    Wire,
    changed,
    cut,
    flipped,
    from_host,
    listener,
    payload_at,
    sealed,
    silent,
    stats,
)

TEXT = b"a datagram that arrives once, whole, or not at all"


class Scene:
    """`one` and `two` are associated; the attacker holds a datagram of `one` to `two`."""

    def __init__(self, make: Make, switch: Switch, version: int = 4, count: int = 2) -> None:
        self.hosts = make(count, version)
        self.one, self.two = self.hosts[:2]
        self.one.reach(self.two)
        eventually(lambda: confirmed(self.one, self.two))
        self.switch = switch
        self.wire = Wire(switch, self.two)
        self.listener = listener(self.two)
        self.frame = sealed(
            switch, self.one, self.two, TEXT, self.listener.getsockname()[1]
        )  # fmt: skip
        self.at = payload_at(self.frame)
        self.before = self._state()

    def _state(self) -> object:
        association = self.two.association(self.one)
        assert association is not None
        return {key: value for key, value in association.items() if key != "age_seconds"}

    def unharmed(self) -> None:
        """Nothing came of it: no delivery, no other association; and the held datagram is
        still good, once."""
        assert silent(self.listener)
        assert self._state() == self.before
        assert self.wire.effect([self.frame]) == {"open_ok": 1}
        assert self.listener.recv(1 << 16) == TEXT
        assert self.wire.effect([self.frame]) == {"open_replay": 1}
        assert silent(self.listener)
        assert self.one.ping(self.two.inner4) is not None
        assert self.two.ping(self.one.inner6) is not None

    def close(self) -> None:
        self.wire.close()
        self.listener.close()


@pytest.fixture
def scene(make: Make, switch: Switch) -> Iterator[Scene]:
    made = Scene(make, switch)
    yield made
    made.close()


@pytest.fixture(params=[4, 6])
def scene_of_version(make: Make, switch: Switch, request: pytest.FixtureRequest) -> Iterator[Scene]:
    made = Scene(make, switch, request.param)
    yield made
    made.close()


def test_bit_flips_in_the_message(scene_of_version: Scene) -> None:
    """Every bit of the header and the tag, and one of each byte of the ciphertext."""
    scene = scene_of_version
    frame, at = scene.frame, scene.at
    lane_at, counter_at, tag_at = at + 3, at + 8, at + 16
    counter = int.from_bytes(frame[counter_at:tag_at], "little")

    def flips(first: int, bits: int) -> list[bytes]:
        return [flipped(frame, bit, first) for bit in range(bits)]

    # DATA is 4, DATA_KEYED 5; all other types are none.
    assert scene.wire.effect(flips(at, 8)) == {"open_malformed": 7, "open_forged": 1}
    assert scene.wire.effect(flips(at + 1, 16)) == {"open_no_box": 16}
    # 16 lanes
    counted = scene.wire.effect(flips(lane_at, 8))
    assert counted.pop("open_malformed") == 4
    # Other lanes have numbers of their own, which may have been used.
    assert counted.keys() <= {"open_forged", "open_replay"}
    assert sum(counted.values()) == 4
    # An index that nobody has, from a listed address: the daemon hears of it, and sees that
    # the association works.
    assert scene.wire.effect(flips(at + 4, 32)) == {"open_pass_unknown": 32}
    expected = Counter(
        "open_malformed" if bit >= 40 else "open_replay" if counter >> bit & 1 else "open_forged"
        for bit in range(64)
    )
    assert scene.wire.effect(flips(counter_at, 64)) == expected
    assert scene.wire.effect(flips(tag_at, 128)) == {"open_forged": 128}
    text = [changed(frame, place, lambda byte: byte ^ 0x20) for place in range(at + 32, len(frame))]
    assert scene.wire.effect(text) == {"open_forged": len(text)}
    scene.unharmed()


def test_bit_flips_in_the_outer_headers(scene: Scene) -> None:
    """Nobody vouches for them; those that say where a packet goes and how long it is."""
    frame = scene.frame
    elsewhere = {
        "version": (14, 0x20),
        "header length": (14, 0x01),
        "more fragments": (20, 0x20),
        "protocol": (23, 0x04),
        "destination": (33, 0x40),
        "port": (37, 0x01),
    }
    for place, mask in elsewhere.values():
        assert scene.wire.effect([changed(frame, place, lambda byte, mask=mask: byte ^ mask)]) == {  # type: ignore[misc]
            "open_pass_other": 1
        }
    lengths = [(17, 1), (17, 2), (16, 1), (16, 4), (39, 1), (39, 2), (38, 1), (38, 0x80)]
    lies = [changed(frame, place, lambda byte, mask=mask: byte ^ mask) for place, mask in lengths]  # type: ignore[misc]
    assert scene.wire.effect(lies) == {"open_malformed": len(lies)}
    scene.unharmed()


def resized(frame: bytes, payload: bytes) -> bytes:
    """The same headers around another UDP payload, over IPv4."""
    source, destination = (str(ipaddress.IPv4Address(frame[at : at + 4])) for at in (26, 30))
    ports = struct.unpack_from("!HH", frame, 34)
    return frame[:14] + packets.udp_packet(source, destination, payload, ports=ports)


def test_truncated_padded_and_oversized(scene: Scene) -> None:
    frame, message = scene.frame, scene.frame[scene.at :]
    # What Ethernet lost: the IP header says more than there is.
    cut_short = [frame[:size] for size in range(scene.at, len(frame))]
    assert scene.wire.effect(cut_short) == {"open_malformed": len(cut_short)}
    # No whole headers: nothing of ours.
    stumps = [frame[:size] for size in range(14, scene.at)]
    assert scene.wire.effect(stumps) == {"open_pass_other": len(stumps)}
    # Consistent lengths.
    shorter = [resized(frame, message[:size]) for size in range(32)]
    assert scene.wire.effect(shorter) == {"open_malformed": 32}
    shorter = [resized(frame, message[:size]) for size in range(32, len(message))]
    assert scene.wire.effect(shorter) == {"open_forged": len(shorter)}
    longer = [resized(frame, message + bytes(size)) for size in (1, 2, 16, 64, 1000)]
    assert scene.wire.effect(longer) == {"open_forged": len(longer)}
    # Padding behind the packet is Ethernet's, and goes.
    scene.frame = frame + b"\xa5" * 30
    scene.unharmed()


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_never_reach_the_inside(make: Make, switch: Switch, version: int) -> None:
    """They pass by XDP; the stack puts them together, and the daemon opens no data."""
    scene = Scene(make, switch, version)
    frame, ip = scene.frame, scene.frame[14:]
    first = 64
    if version == 4:
        source, destination = (str(ipaddress.IPv4Address(ip[at : at + 4])) for at in (12, 16))
        body = ip[20:]
        parts = [
            packets.ipv4(source, destination, body[:first], fragment=0x2000),
            packets.ipv4(source, destination, body[first:], fragment=first // 8),
        ]
    else:
        source, destination = (str(ipaddress.IPv6Address(ip[at : at + 16])) for at in (8, 24))
        body = ip[40:]
        parts = [
            packets.ipv6(
                source,
                destination,
                struct.pack("!BBHI", 17, 0, offset | more, 7) + part,
                next_header=44,
            )
            for offset, more, part in ((0, 1, body[:first]), (first, 0, body[first:]))
        ]
    whole = stats(scene.two)
    assert scene.wire.effect([frame[:14] + part for part in parts]) == {"open_pass_other": 2}
    assert stats(scene.two)["open_ok"] == whole["open_ok"]
    scene.unharmed()
    scene.close()


def test_replays_of_a_whole_conversation(scene: Scene) -> None:
    """Both directions, to both hosts."""
    with scene.switch.listen(scene.one.port) as capture:
        for _ in range(20):
            assert scene.one.ping(scene.two.inner4) is not None
    to_two = from_host(capture.frames, scene.one, 4)
    to_one = from_host(capture.frames, scene.two, 4)
    assert len(to_two) >= 20
    assert len(to_one) >= 20
    for _ in range(3):
        assert scene.wire.effect(to_two) == {"open_replay": len(to_two)}
    # Reflected: a host's own packets come back to it, as they are, then for its address.
    # Their index is the other side's: nobody has it here.
    back = Wire(scene.switch, scene.one)
    assert back.effect(to_two) == {"open_pass_other": len(to_two)}
    own = [frame[:30] + frame[26:30] + frame[34:] for frame in to_two]
    assert back.effect(own) == {"open_unknown_index": len(own)}
    swapped = [frame[:26] + frame[30:34] + frame[26:30] + frame[34:] for frame in to_two[:5]]
    assert back.effect(swapped) == {"open_pass_unknown": len(swapped)}
    assert back.effect(to_one) == {"open_replay": len(to_one)}
    back.close()
    scene.unharmed()


def test_spoofed_inner_sources(make: Make, switch: Switch) -> None:
    """A member of the mesh sends in another's name."""
    scene = Scene(make, switch, count=3)
    one, two, three = scene.hosts
    two.reach(three)
    three.reach(two)
    port = scene.listener.getsockname()[1]
    liar = device(three)
    sources = [one.inner4, two.inner4, ipaddress.ip_address("10.77.0.99"), one.underlay4.ip,
               ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("224.0.0.1")]  # fmt: skip
    before = stats(two)
    for source in sources:
        text = packets.udp_packet(str(source), str(two.inner4), b"trust me", ports=(9, port))
        liar.send(packets.ethernet(text))
    for source6 in (one.inner6, two.inner6, ipaddress.ip_address("::1")):
        text = packets.udp_packet(str(source6), str(two.inner6), b"trust me", ports=(9, port))
        liar.send(packets.ethernet(text))
    total = len(sources) + 3

    def all_refused() -> bool:
        """each is refused for its source"""
        return stats(two)["open_source"] - before["open_source"] == total

    eventually(all_refused, 5, 0.05)
    assert stats(two)["open_ok"] == before["open_ok"]
    # In its own name it is heard.
    text = packets.udp_packet(str(three.inner4), str(two.inner4), b"it is me", ports=(9, port))
    liar.send(packets.ethernet(text))
    assert scene.listener.recv(100) == b"it is me"
    liar.close()
    scene.unharmed()
    scene.close()


def device(host: Host) -> socket.socket:
    """A packet socket on the host's brine0."""
    made = host.inside(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.bind(("brine0", 0))
    return made


def test_plaintext_in_the_name_of_the_mesh(scene: Scene) -> None:
    one, two = scene.one, scene.two
    port = scene.listener.getsockname()[1]
    lies = [
        packets.udp_packet(str(source), str(destination), b"trust me", ports=(9, port))
        for source, destination in (
            (one.inner4, two.inner4),
            (one.inner6, two.inner6),
            (two.inner4, two.inner4),
            (one.inner4, two.underlay4.ip),
            (one.underlay4.ip, two.inner4),
            (one.underlay6.ip, two.inner6),
        )
    ]
    # To brine's own port a mesh source would have the daemon answer into the mesh.
    initiation = b"\1" + bytes(1383)
    lies.append(
        packets.udp_packet(str(one.inner4), str(two.underlay4.ip), initiation, ports=(PORT, PORT))
    )
    head = scene.frame[:12]
    frames = [head + packets.ethernet(lie)[12:] for lie in lies]
    frames += [head + packets.ethernet(lies[0], vlan=7)[12:]]
    assert scene.wire.effect(frames) == {"open_plaintext": len(frames)}
    scene.unharmed()


def test_packets_of_a_removed_peer(scene: Scene) -> None:
    one, two = scene.one, scene.two
    two.paths.roster.write_text(roster_of([two]))
    two.apply_peers()
    with scene.switch.listen(two.port) as capture:
        assert scene.wire.effect([scene.frame] * 3) == {"open_unknown_index": 3}
        assert one.ping(two.inner4) is None
    assert not from_host(capture.frames, two, 1, 2, 3, 4, 5)
    assert silent(scene.listener)
    # Back again it needs a new exchange: what was sealed before stays worthless.
    two.paths.roster.write_text(roster_of([one, two]))
    two.apply_peers()
    one.reach(two)
    assert set(scene.wire.effect([scene.frame])) <= {"open_unknown_index", "open_pass_unknown"}
    assert silent(scene.listener)


def test_packets_held_back_for_long(scene: Scene) -> None:
    """One that waits while the window moves on is too old; within the window it is good."""
    one, two = scene.one, scene.two
    with cut(scene.switch, two):
        assert one.ping(two.inner4, 0.3) is None
    with one.inside(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(500):
            sender.sendto(b"on", (str(two.inner4), 9))
    assert scene.wire.effect([scene.frame]) == {"open_ok": 1}
    assert scene.listener.recv(1 << 16) == TEXT
