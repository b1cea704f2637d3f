# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and what is derived from them: every formula of brine/1 outside Noise.

Pure functions of bytes, after docs/protocol.md; tests/vectors/brine/ has an example of
each. X25519 is RFC 7748 by libsodium, BLAKE2b RFC 7693 with the output's length as its
parameter. Keys are 32 bytes unless said. No function logs, and no ``repr`` shows a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import struct
from dataclasses import dataclass, field

import nacl.bindings
import nacl.exceptions

KEY_BYTES = 32
LANE_LIMIT = 16  #: lanes are below this
COUNTER_LIMIT = 1 << 56  #: counters are below this

_OVERLAY_PREFIX = ipaddress.IPv6Network("fd62:7269:6e65::/48")  # "brine" as the global id
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_WORD = 0xFFFFFFFF


class LowOrderPoint(ValueError):
    """The peer's key has low order: X25519 gave zeros, which everyone knows."""


def _blake2b(bits: int, data: bytes, key: bytes = b"") -> bytes:
    return hashlib.blake2b(data, digest_size=bits // 8, key=key).digest()


def _sized(value: bytes, size: int, what: str) -> bytes:
    if len(value) != size:
        raise ValueError(f"{what} has {len(value)} bytes instead of {size}")
    return value


# Identities


def generate_private() -> bytes:
    """A new X25519 private key: 32 bytes of the kernel's generator."""
    return os.urandom(KEY_BYTES)


def public_key(private: bytes) -> bytes:
    """X25519(private, 9), as ``crypto_scalarmult_base``.

    :raises ValueError: unless `private` is 32 bytes.
    """
    return nacl.bindings.crypto_scalarmult_base(_sized(private, KEY_BYTES, "a private key"))


def key_id(public: bytes) -> str:
    """A short name of a public key for people: BLAKE2b-64 in hex, 16 digits."""
    return _blake2b(64, _sized(public, KEY_BYTES, "a public key")).hex()


def overlay_address(public: bytes) -> ipaddress.IPv6Address:
    """The address in fd62:7269:6e65::/48 that follows from a public key: the prefix and
    BLAKE2b-80 under the key "brine/1 address"."""
    tail = _blake2b(80, _sized(public, KEY_BYTES, "a public key"), b"brine/1 address")
    return ipaddress.IPv6Address(_OVERLAY_PREFIX.network_address.packed[:6] + tail)


def parse_key(text: str) -> bytes:
    """32 bytes from base64, surrounding space ignored.

    :raises ValueError: saying what is wrong, without the value, which may be secret.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"has {len(key)} bytes instead of {KEY_BYTES}")
    if not any(key):
        raise ValueError("is all zeros")
    return key


def show_key(key: bytes) -> str:
    """The base64 that :func:`parse_key` reads."""
    return base64.b64encode(_sized(key, KEY_BYTES, "a key")).decode()


# Agreement


def x25519(private: bytes, public: bytes) -> bytes:
    """X25519 of RFC 7748, as ``crypto_scalarmult``: 32 bytes.

    :raises LowOrderPoint: if the result is all zeros.
    :raises ValueError: if a length is wrong.
    """
    _sized(private, KEY_BYTES, "a private key")
    _sized(public, KEY_BYTES, "a public key")
    try:
        return nacl.bindings.crypto_scalarmult(private, public)
    except nacl.exceptions.RuntimeError:
        raise LowOrderPoint("the public key has low order") from None


def beforenm(private: bytes, public: bytes) -> bytes:
    """HSalsa20(X25519(private, public), 0), as ``crypto_box_beforenm``: 32 bytes.

    :raises LowOrderPoint: if X25519 gives zeros.
    :raises ValueError: if `public` belongs to `private` (a reflection), or a length is wrong.
    """
    if hmac.compare_digest(public_key(private), _sized(public, KEY_BYTES, "a public key")):
        raise ValueError("the peer's key is our own")
    try:
        return nacl.bindings.crypto_box_beforenm(public, private)
    except nacl.exceptions.RuntimeError:
        raise LowOrderPoint("the public key has low order") from None


def _quarter(x: list[int], a: int, b: int, c: int, d: int) -> None:
    # Salsa20's quarterround (Bernstein, "The Salsa20 family", section 3).
    for into, one, two, left in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
        total = (x[one] + x[two]) & _WORD
        x[into] ^= (total << left | total >> (32 - left)) & _WORD


def hsalsa20(key: bytes, block: bytes) -> bytes:
    """HSalsa20 of 32 bytes of key and 16 of input, as ``crypto_core_hsalsa20``: 32 bytes.

    Source: Bernstein, "Extending the Salsa20 nonce", section 2. PyNaCl does not bind it.
    """
    k = struct.unpack("<8I", _sized(key, KEY_BYTES, "a key"))
    n = struct.unpack("<4I", _sized(block, 16, "the input"))
    c = _SIGMA
    x = [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]
    for _round in range(10):
        _quarter(x, 0, 4, 8, 12)
        _quarter(x, 5, 9, 13, 1)
        _quarter(x, 10, 14, 2, 6)
        _quarter(x, 15, 3, 7, 11)
        _quarter(x, 0, 1, 2, 3)
        _quarter(x, 5, 6, 7, 4)
        _quarter(x, 10, 11, 8, 9)
        _quarter(x, 15, 12, 13, 14)
    return struct.pack("<8I", *(x[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


# Boxes


@dataclass(frozen=True)
class Box:
    """The symmetric state of one direction and one pair: K and N of the protocol."""

    key: bytes = field(repr=False)  #: 32 bytes
    nonce: bytes = field(repr=False)  #: 16 bytes, constant for the box


def derive_box(
    secret: bytes,
    sender_generation: int,
    receiver_generation: int,
    dh: bytes,
    sender_public: bytes,
    receiver_public: bytes,
) -> Box:
    """K ‖ N = BLAKE2b-384(key A, "brine/1 box" ‖ sgen ‖ rgen ‖ dh ‖ P_sender ‖ P_receiver).

    `secret` is the association's A, `dh` comes from :func:`beforenm`, the public keys are
    the association keys of those generations.

    :raises ValueError: if a length is wrong or a generation is no u8.
    """
    out = _blake2b(
        384,
        b"brine/1 box"
        + bytes((sender_generation, receiver_generation))
        + _sized(dh, KEY_BYTES, "the shared secret")
        + _sized(sender_public, KEY_BYTES, "the sender's key")
        + _sized(receiver_public, KEY_BYTES, "the receiver's key"),
        _sized(secret, KEY_BYTES, "the association's secret"),
    )
    return Box(out[:KEY_BYTES], out[KEY_BYTES:])


def box_nonce(nonce: bytes, lane: int, counter: int) -> bytes:
    """N ‖ LE64(lane · 2^56 + counter): the 24 bytes of ``crypto_secretbox``.

    :raises ValueError: if a value is out of range.
    """
    if not 0 <= lane < LANE_LIMIT or not 0 <= counter < COUNTER_LIMIT:
        raise ValueError("lane or counter out of range")
    return _sized(nonce, 16, "a box's nonce") + (lane << 56 | counter).to_bytes(8, "little")


def subkey(box: Box) -> bytes:
    """HSalsa20(K, N): what the packet path keeps instead of K and N. 32 bytes."""
    return hsalsa20(box.key, box.nonce)


def header_tag(header_key: bytes, header: bytes, key: bytes) -> bytes:
    """BLAKE2b-64 under the direction's header key of the 16 header bytes and the announced
    key of a DATA_KEYED packet: 8 bytes."""
    return _blake2b(
        64,
        _sized(header, 16, "a header") + _sized(key, KEY_BYTES, "an announced key"),
        _sized(header_key, KEY_BYTES, "a header key"),
    )


# Associations


@dataclass(frozen=True)
class AssociationKeys:
    """What both sides take from an exchange besides the generation-0 keys."""

    secret: bytes = field(repr=False)  #: A, 32 bytes
    header_initiator: bytes = field(repr=False)  #: hk_ir, 32 bytes: packets of the initiator
    header_responder: bytes = field(repr=False)  #: hk_ri, 32 bytes: packets of the responder


def association_keys(chaining_key: bytes, handshake_hash: bytes) -> AssociationKeys:
    """A, hk_ir and hk_ri from Noise's ck and h (64 bytes each) after RESPONSE's payload."""
    _sized(chaining_key, 64, "the chaining key")
    _sized(handshake_hash, 64, "the handshake hash")
    labels = (b"brine/1 A", b"brine/1 header i", b"brine/1 header r")
    return AssociationKeys(
        *(_blake2b(256, label + handshake_hash, chaining_key) for label in labels)
    )


# Message authentication


def mac1_key(psk: bytes, receiver_public: bytes) -> bytes:
    """BLAKE2b-256("brine/1 mac1" ‖ psk ‖ S_receiver): the key of mac1, 32 bytes."""
    return _blake2b(
        256,
        b"brine/1 mac1"
        + _sized(psk, KEY_BYTES, "the mesh secret")
        + _sized(receiver_public, KEY_BYTES, "a public key"),
    )


def mac(key: bytes, data: bytes) -> bytes:
    """BLAKE2b-128 of mac1 (under :func:`mac1_key`) and mac2 (under a cookie): 16 bytes.

    :raises ValueError: if the key is neither, as an empty one would authenticate nothing.
    """
    if len(key) not in (16, KEY_BYTES):
        raise ValueError(f"a key of {len(key)} bytes is neither a mac1 key nor a cookie")
    return _blake2b(128, data, key)


def cookie_key(psk: bytes, responder_public: bytes, mac1: bytes) -> bytes:
    """BLAKE2b-256("brine/1 cookie" ‖ psk ‖ S_responder ‖ mac1): what a cookie is sealed
    under, for the INITIATION that had this mac1. 32 bytes."""
    return _blake2b(
        256,
        b"brine/1 cookie"
        + _sized(psk, KEY_BYTES, "the mesh secret")
        + _sized(responder_public, KEY_BYTES, "a public key")
        + _sized(mac1, 16, "mac1"),
    )


def cookie(rotating_secret: bytes, address: bytes, port: int) -> bytes:
    """BLAKE2b-128(key R, address ‖ port): what a datagram's source must return. 16 bytes.

    `address` is 16 bytes, IPv4 mapped; `port` enters in network order.
    """
    return _blake2b(
        128,
        _sized(address, 16, "an address") + port.to_bytes(2, "big"),
        _sized(rotating_secret, KEY_BYTES, "the rotating secret"),
    )
