# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets by hand: what goes in, and what must come out.

Written from the RFCs and protocol.md with struct and libsodium alone, so that they
judge the programs independently. Addresses are given as text.
"""

from __future__ import annotations

import ipaddress
import struct

import nacl.bindings

ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q, ETH_P_ARP = 0x0800, 0x86DD, 0x8100, 0x0806
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(payload: bytes, *, vlan: int | None = None, ethertype: int | None = None) -> bytes:
    """A frame around an IP packet; its version gives the EtherType unless that is given."""
    if ethertype is None:
        ethertype = ETH_P_IP if payload[0] >> 4 == 4 else ETH_P_IPV6
    tag = struct.pack("!HH", ETH_P_8021Q, vlan) if vlan is not None else b""
    return MAC_B + MAC_A + tag + struct.pack("!H", ethertype) + payload


def ipv4(
    source: str,
    destination: str,
    payload: bytes,
    *,
    protocol: int = UDP,
    tos: int = 0,
    fragment: int = 0,
    ttl: int = 64,
    options: bytes = b"",
    length: int | None = None,
) -> bytes:
    """RFC 791. `fragment` is the word of flags and offset; `length` may lie."""
    size = 20 + len(options)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | size // 4,
        tos,
        size + len(payload) if length is None else length,
        0,
        fragment,
        ttl,
        protocol,
        0,
        ipaddress.IPv4Address(source).packed,
        ipaddress.IPv4Address(destination).packed,
    )
    header += options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(
    source: str,
    destination: str,
    payload: bytes,
    *,
    next_header: int = UDP,
    traffic_class: int = 0,
    flow: int = 0,
    hop_limit: int = 64,
    length: int | None = None,
) -> bytes:
    """RFC 8200. `length` (of the payload) may lie."""
    return (
        struct.pack(
            "!IHBB",
            6 << 28 | traffic_class << 20 | flow,
            len(payload) if length is None else length,
            next_header,
            hop_limit,
        )
        + ipaddress.IPv6Address(source).packed
        + ipaddress.IPv6Address(destination).packed
        + payload
    )


def ip(source: str, destination: str, payload: bytes, protocol: int, traffic_class: int) -> bytes:
    """IPv4 or IPv6 by the addresses' family."""
    if ":" in source:
        return ipv6(source, destination, payload, next_header=protocol, traffic_class=traffic_class)
    return ipv4(source, destination, payload, protocol=protocol, tos=traffic_class)


def udp(source: int, destination: int, payload: bytes, *, length: int | None = None) -> bytes:
    """RFC 768, checksum zero. `length` may lie."""
    return (
        struct.pack("!HHHH", source, destination, 8 + len(payload) if length is None else length, 0)
        + payload
    )


def udp_packet(
    source: str,
    destination: str,
    payload: bytes,
    *,
    ports: tuple[int, int] = (50000, 4747),
    traffic_class: int = 0,
) -> bytes:
    """An IP packet with a UDP datagram in it."""
    return ip(source, destination, udp(*ports, payload), UDP, traffic_class)


def secretbox(key: bytes, nonce16: bytes, lane: int, counter: int, text: bytes) -> bytes:
    """libsodium's crypto_secretbox under protocol.md's nonce: tag ‖ ciphertext."""
    nonce = nonce16 + struct.pack("<Q", lane << 56 | counter)
    return nacl.bindings.crypto_secretbox(text, nonce, key)


def data(
    key: bytes,
    nonce16: bytes,
    index: int,
    text: bytes,
    *,
    counter: int = 0,
    lane: int = 0,
    generations: tuple[int, int] = (0, 0),
) -> bytes:
    """A DATA message."""
    header = struct.pack("<BBBBIQ", 4, *generations, lane, index, counter)
    return header + secretbox(key, nonce16, lane, counter, text)


def data_keyed(
    key: bytes,
    nonce16: bytes,
    index: int,
    text: bytes,
    *,
    announced: bytes = bytes(32),
    header_tag: bytes = bytes(8),
    counter: int = 0,
    lane: int = 0,
    generations: tuple[int, int] = (0, 0),
) -> bytes:
    """A DATA_KEYED message."""
    header = struct.pack("<BBBBIQ", 5, *generations, lane, index, counter)
    return header + announced + header_tag + secretbox(key, nonce16, lane, counter, text)
