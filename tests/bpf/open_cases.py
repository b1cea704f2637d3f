# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of test_open.py: frames that `open` does not deliver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.bpf import packets
from tests.bpf.host import PORT
from tests.bpf.receiver import (
    INDEX,
    INSIDE,
    NOBODYS,
    OTHERS,
    OURS,
    PEERS_OWN,
    THEIRS,
    Receiver,
)

Build = Callable[[Receiver], bytes]


@dataclass
class Case:
    """A frame, and the counter that must tell what became of it."""

    name: str
    stat: str
    frame: Build


def sealed(change: Callable[[bytes], bytes], family: int = 4) -> Build:
    """DATA whose text is a sound inner packet, changed."""
    return lambda s: s.frame(s.data(change(s.inner(family))))


def message(change: Callable[[bytearray], object]) -> Build:
    """DATA whose header is changed afterwards."""

    def build(s: Receiver) -> bytes:
        raw = bytearray(s.data(s.inner()))
        change(raw)
        return s.frame(bytes(raw))

    return build


def raw(first: bytes, size: int) -> Build:
    """A datagram of `size` bytes that begins so."""
    return lambda s: s.frame(first + bytes(size - len(first)))


def clear(source: str, destination: str, vlan: int | None = None) -> Build:
    """Something else than brine between two addresses."""
    return lambda s: packets.ethernet(
        packets.udp_packet(source, destination, b"in the clear", ports=(22, 22)), vlan=vlan
    )


def _put(at: int, octets: bytes) -> Callable[[bytearray], None]:
    def change(into: bytearray) -> None:
        into[at : at + len(octets)] = octets

    return change


def fixed(packet: bytes) -> Build:
    """That packet."""
    return lambda s: packets.ethernet(packet)


def lying(*, ip_more: int = 0, udp_more: int = 0, cut: int = 0) -> Build:
    """DATA whose IPv4 or UDP length is not what it carries, or whose frame is cut."""

    def build(s: Receiver) -> bytes:
        text = s.data(s.inner())
        datagram = packets.udp(50000, PORT, text, length=8 + len(text) + udp_more)
        packet = packets.ipv4(THEIRS[4], OURS[4], datagram, length=28 + len(text) + ip_more)
        return packets.ethernet(packet)[: -cut or None]

    return build


def short(s: Receiver) -> bytes:
    """IPv4 and UDP agree on a datagram of seven bytes."""
    datagram = packets.udp(50000, PORT, s.data(b""), length=7)
    return packets.ethernet(packets.ipv4(THEIRS[4], OURS[4], datagram, length=27))


def over4(**how: Any) -> Build:
    """DATA in an IPv4 packet of that kind."""
    return lambda s: packets.ethernet(
        packets.ipv4(
            THEIRS[4],
            OURS[4],
            packets.udp(50000, PORT, s.data(s.inner())),
            **how,
        )
    )


def extended(s: Receiver) -> bytes:
    """DATA behind an IPv6 destination option."""
    header = b"\x11\0\1\4\0\0\0\0"
    datagram = packets.udp(50000, PORT, s.data(s.inner()))
    return packets.ethernet(packets.ipv6(THEIRS[6], OURS[6], header + datagram, next_header=60))


def _passed() -> Iterator[Case]:
    other = "open_pass_other"
    yield Case("ARP", other, lambda s: packets.ethernet(bytes(28), ethertype=packets.ETH_P_ARP))
    yield Case("a runt", other, lambda s: packets.ethernet(b"\x45" + bytes(5)))
    yield Case("a runt in a VLAN", other, lambda s: packets.ethernet(b"\x45\0", vlan=1)[:16])
    yield Case("others' traffic", other, clear("203.0.113.5", "203.0.113.6"))
    yield Case(
        "DATA to another address",
        other,
        lambda s: packets.ethernet(packets.udp_packet(THEIRS[4], "192.0.2.77", s.data(b""))),
    )
    yield Case("another port", other, lambda s: s.frame(s.data(b""), ports=(PORT, PORT + 1)))
    yield Case("TCP to our port", other, over4(protocol=packets.TCP))
    yield Case("a first fragment", other, over4(fragment=0x2000))
    yield Case("a later fragment", other, over4(fragment=0x0001))
    yield Case("IPv4 options", other, over4(options=bytes(4)))
    yield Case("an IPv6 extension header", other, extended)
    yield Case(
        "two VLAN tags",
        other,
        lambda s: packets.ethernet(
            bytes.fromhex("00028100") + s.frame(s.data(b""))[12:], ethertype=0x8100
        ),
    )
    yield Case("a network behind a peer", other, clear("172.16.8.77", OURS[4]))


def _malformed() -> Iterator[Case]:
    bad = "open_malformed"
    sizes = [(1, 1383), (1, 1385), (2, 1231), (2, 1233), (3, 63), (3, 65), (1, 64), (3, 1384)]
    sizes += [(0, 64), (6, 64), (255, 64), (0, 1384)]
    sizes += [(4, size) for size in (1, 2, 15, 16, 31)] + [(5, size) for size in (1, 32, 40, 71)]
    for kind, size in sizes:
        yield Case(f"type {kind} of {size} bytes", bad, raw(bytes([kind]), size))
    yield Case("an empty datagram", bad, raw(b"", 0))
    for kind, size in ((1, 1384), (2, 1232), (3, 64)):
        for at in (1, 2, 3):
            first = bytes([kind]) + bytes(at - 1) + b"\1"
            yield Case(f"reserved byte {at} of type {kind}", bad, raw(first, size))
    for lane in (16, 17, 31, 128, 255):
        yield Case(f"lane {lane}", bad, message(_put(3, bytes([lane]))))
    for counter in (2**40, 2**40 + 1, 2**56 - 1, 2**56, 2**63, 2**64 - 1):
        octets = counter.to_bytes(8, "little")
        yield Case(f"counter {counter:#x}", bad, message(_put(8, octets)))
    yield Case("a text too long", bad, lambda s: s.frame(s.data(bytes(9217))))
    yield Case("IPv4 shorter than UDP", bad, lying(ip_more=-1))
    yield Case("IPv4 longer than UDP", bad, lying(udp_more=-1))
    yield Case("UDP longer than IPv4", bad, lying(udp_more=1))
    yield Case("UDP shorter than its header", bad, short)
    yield Case("a frame cut short", bad, lying(cut=1))
    yield Case("a frame cut behind the headers", bad, lying(cut=40))


def _pairs() -> Iterator[Case]:
    unknown = "open_unknown_index"
    for index in (INDEX + 1, INDEX ^ 1 << 31, 0, 2**32 - 1):
        yield Case(f"index {index:#x}", unknown, message(_put(4, index.to_bytes(4, "little"))))
    for pair in ((0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (2, 2), (254, 254), (255, 255)):
        yield Case(f"pair {pair}", "open_no_box", message(_put(1, bytes(pair))))
    yield Case(
        "keyed, of an unknown pair",
        "open_no_box",
        lambda s: s.frame(s.data_keyed(b"", generations=(1, 0))),
    )
    yield Case("a keepalive", "open_keepalive", lambda s: s.frame(s.data(b"")))
    yield Case("a keyed keepalive", "open_keepalive", lambda s: s.frame(s.data_keyed(b"")))


def _inner() -> Iterator[Case]:
    bad = "open_inner"

    def cut(length: int) -> Callable[[bytes], bytes]:
        return lambda text: text[:length]

    def begin(first: int) -> Callable[[bytes], bytes]:
        return lambda text: bytes([first]) + text[1:]

    for length in range(1, 20):
        yield Case(f"{length} bytes of text", bad, sealed(cut(length)))
    for length in (20, 21, 39):
        yield Case(f"{length} bytes of IPv6", bad, sealed(cut(length), 6))
    for version in (0, 1, 5, 7, 15):
        yield Case(f"IP version {version}", bad, sealed(begin(version << 4 | 5)))
    for words in (0, 4, 15):
        yield Case(f"an inner header of {words * 4} bytes", bad, sealed(begin(0x40 | words)))
    for family in (4, 6):
        yield Case(f"an inner IPv{family} packet cut short", bad, sealed(cut(-1), family))
        yield Case(
            f"bytes behind an inner IPv{family} packet",
            bad,
            sealed(lambda text: text + b"\0", family),
        )

    # The peer's own IPv4 addresses, in IPv6 clothes.
    for source, target in (
        (f"::ffff:{PEERS_OWN[4]}", INSIDE[6]),
        (PEERS_OWN[6], f"::ffff:{INSIDE[4]}"),
    ):
        inner = packets.udp_packet(source, target, b"mapped")
        yield Case(f"from {source} to {target}", bad, sealed(lambda _text, inner=inner: inner, 6))  # type: ignore[misc]


def _spoofed() -> Iterator[Case]:
    def from_(source: str) -> Build:
        target = INSIDE[6 if ":" in source else 4]
        return sealed(lambda _text: packets.udp_packet(source, target, b"spoofed"))

    sources = [*OTHERS.values(), *NOBODYS.values(), *INSIDE.values(), *OURS.values()]
    sources += [*THEIRS.values(), "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
    sources += ["::", "::1", "fe80::1", "ff02::1", "172.16.9.1"]
    for source in sources:
        yield Case(f"from {source}", "open_source", from_(source))


def _plaintext() -> Iterator[Case]:
    bad = "open_plaintext"
    for source, destination in (
        (PEERS_OWN[4], OURS[4]),
        (THEIRS[4], INSIDE[4]),
        (NOBODYS[4], OURS[4]),
        (THEIRS[4], NOBODYS[4]),
        (INSIDE[4], PEERS_OWN[4]),
        (PEERS_OWN[6], OURS[6]),
        (THEIRS[6], INSIDE[6]),
        (NOBODYS[6], NOBODYS[6]),
    ):
        yield Case(f"clear, {source} to {destination}", bad, clear(source, destination))
    yield Case("clear, in a VLAN", bad, clear(PEERS_OWN[4], OURS[4], vlan=5))
    for name, packet in (
        ("a fragment", packets.ipv4(PEERS_OWN[4], OURS[4], b"x" * 8, fragment=3)),
        ("with options", packets.ipv4(PEERS_OWN[4], OURS[4], b"x", options=bytes(4))),
        ("ICMPv6", packets.ip(PEERS_OWN[6], OURS[6], bytes(8), packets.ICMPV6, 0)),
        ("an exchange", packets.udp_packet(PEERS_OWN[4], OURS[4], b"\1" + bytes(1383))),
    ):
        yield Case(f"clear, {name}", bad, fixed(packet))


PASSED = list(_passed())
DROPPED = [*_malformed(), *_pairs(), *_inner(), *_spoofed(), *_plaintext()]
