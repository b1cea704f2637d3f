# SPDX-License-Identifier: GPL-3.0-or-later
"""INITIATION, RESPONSE and COOKIE as bytes: layout, mac1 and mac2, nothing of Noise.

Structs come from BTF (bpf/wire.h); a message type and its struct share their name.
Lengths are exact and reserved bytes zero, or the message is refused.
"""

from __future__ import annotations

import ctypes
import hmac
import os
import struct

from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from brine import keys
from brine.layout import Layout

INITIATION, RESPONSE, COOKIE = "message_initiation", "message_response", "message_cookie"
EXCHANGE_KINDS = (INITIATION, RESPONSE, COOKIE)
NO_MAC2 = bytes(16)

_INITIATION_PAYLOAD = struct.Struct("<12sI32s")  # TAI64N (itself big-endian), sender, P0
_RESPONSE_PAYLOAD = struct.Struct("<I32s")  # sender, P0


class Refused(Exception):
    """A message that must not have any effect. `reason` is for logs and holds no secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MalformedMessage(Refused):
    """Not a message of the exchange: type, length or a reserved byte."""


def kind(layout: Layout, data: bytes) -> str:
    """Which of the exchange's messages `data` has the shape of.

    :raises MalformedMessage: if it has none's.
    """
    types = layout.enum("message_type")
    for name in EXCHANGE_KINDS:
        shape: type[ctypes.Structure] = getattr(layout, name)
        if data[:1] == bytes((types[name.upper()],)):
            if len(data) != ctypes.sizeof(shape):
                raise MalformedMessage(f"{name} of wrong length")
            if any(_field(shape, data, "reserved")):
                raise MalformedMessage("a reserved byte is not zero")
            return name
    raise MalformedMessage("no message of the exchange")


def parse(layout: Layout, expected: str, data: bytes) -> ctypes.Structure:
    """`data` as an instance of the struct `expected`.

    :raises MalformedMessage: if it is another message, or none.
    """
    found = kind(layout, data)
    if found != expected:
        raise MalformedMessage(f"{found} instead of {expected}")
    shape: type[ctypes.Structure] = getattr(layout, expected)
    return shape.from_buffer_copy(data)


def _field(shape: type[ctypes.Structure], data: bytes, name: str) -> bytes:
    place = getattr(shape, name)
    return data[place.offset : place.offset + place.size]


def _noise_shape(layout: Layout, data: bytes) -> type[ctypes.Structure]:
    """The struct of a message that carries Noise and macs."""
    name = kind(layout, data)
    if name == COOKIE:
        raise MalformedMessage("a COOKIE has no macs")
    shape: type[ctypes.Structure] = getattr(layout, name)
    return shape


def _blank(layout: Layout, name: str) -> ctypes.Structure:
    shape: type[ctypes.Structure] = getattr(layout, name)
    message = shape()
    message.type = layout.enum("message_type")[name.upper()]
    return message


def _noise_span(shape: type[ctypes.Structure]) -> slice:
    """Where the Noise message lies: from the ephemeral key up to mac1."""
    return slice(shape.ephemeral.offset, shape.mac1.offset)


def noise_part(layout: Layout, data: bytes) -> bytes:
    """The Noise message in an INITIATION or a RESPONSE of right shape."""
    return data[_noise_span(_noise_shape(layout, data))]


# Building


def initiation(
    layout: Layout, sender: int, noise: bytes, mac1_key: bytes, cookie: bytes | None = None
) -> bytes:
    """An INITIATION: our index, the Noise message, mac1, and mac2 if there is a cookie."""
    message = _blank(layout, INITIATION)
    message.sender = sender
    return _finish(message, noise, mac1_key, cookie)


def response(layout: Layout, sender: int, receiver: int, noise: bytes, mac1_key: bytes) -> bytes:
    """A RESPONSE: our index, the initiator's, the Noise message, mac1."""
    message = _blank(layout, RESPONSE)
    message.sender, message.receiver = sender, receiver
    return _finish(message, noise, mac1_key, None)


def _finish(
    message: ctypes.Structure, noise: bytes, mac1_key: bytes, cookie: bytes | None
) -> bytes:
    shape = type(message)
    data = bytearray(message)
    span = _noise_span(shape)
    if len(noise) != span.stop - span.start:
        raise ValueError(f"the Noise message has {len(noise)} bytes")
    data[span] = noise
    before = bytes(data[: shape.mac1.offset])
    mac1 = keys.mac(mac1_key, before)
    mac2 = keys.mac(cookie, before + mac1) if cookie is not None else NO_MAC2
    return before + mac1 + mac2


def initiation_payload(timestamp: bytes, sender: int, public: bytes) -> bytes:
    """TAI64N ‖ sender ‖ P0, before sealing."""
    if len(timestamp) != 12 or len(public) != keys.KEY_BYTES:  # struct would pad
        raise ValueError("a TAI64N has 12 bytes, a key 32 bytes")
    return _INITIATION_PAYLOAD.pack(timestamp, sender, public)


def response_payload(sender: int, public: bytes) -> bytes:
    """sender ‖ P0, before sealing."""
    if len(public) != keys.KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return _RESPONSE_PAYLOAD.pack(sender, public)


# Reading


def parse_initiation_payload(payload: bytes) -> tuple[bytes, int, bytes]:
    """The timestamp, the sender's index and P0."""
    timestamp, sender, public = _INITIATION_PAYLOAD.unpack(payload)
    return timestamp, sender, public


def parse_response_payload(payload: bytes) -> tuple[int, bytes]:
    """The sender's index and P0."""
    sender, public = _RESPONSE_PAYLOAD.unpack(payload)
    return sender, public


def receiver(layout: Layout, data: bytes) -> int:
    """The index that a RESPONSE or COOKIE is for: the sender of the INITIATION it answers.

    :raises MalformedMessage: if it is neither.
    """
    name = kind(layout, data)
    if name == INITIATION:
        raise MalformedMessage("an INITIATION names no receiver")
    number: int = parse(layout, name, data).receiver
    return number


def mac1(layout: Layout, data: bytes) -> bytes:
    """The mac1 field of an INITIATION or RESPONSE of right shape."""
    return _field(_noise_shape(layout, data), data, "mac1")


def mac2(layout: Layout, data: bytes) -> bytes:
    """The mac2 field, likewise."""
    return _field(_noise_shape(layout, data), data, "mac2")


def mac1_is_valid(layout: Layout, data: bytes, mac1_key: bytes) -> bool:
    """Whether mac1 of an INITIATION or RESPONSE of right shape fits the key."""
    shape = _noise_shape(layout, data)
    expected = keys.mac(mac1_key, data[: shape.mac1.offset])
    return hmac.compare_digest(expected, _field(shape, data, "mac1"))


def mac2_is_valid(layout: Layout, data: bytes, cookie: bytes) -> bool:
    """Whether mac2 shows that the sender has this cookie."""
    shape = _noise_shape(layout, data)
    expected = keys.mac(cookie, data[: shape.mac2.offset])
    return hmac.compare_digest(expected, _field(shape, data, "mac2"))


# Cookies


def seal_cookie(layout: Layout, receiver: int, cookie_key: bytes, cookie: bytes) -> bytes:
    """A COOKIE to the index that INITIATION named, under a fresh random nonce."""
    message = _blank(layout, COOKIE)
    message.receiver = receiver
    nonce = os.urandom(layout.enum("wire_size")["COOKIE_NONCE_SIZE"])
    message.nonce[:] = nonce
    message.sealed[:] = crypto_secretbox(cookie, nonce, cookie_key)
    return bytes(message)


def open_cookie(layout: Layout, data: bytes, receiver: int, cookie_key: bytes) -> bytes:
    """The cookie (16 bytes) in a COOKIE for our index.

    :raises Refused: if it is for another index, or does not authenticate.
    """
    message = parse(layout, COOKIE, data)
    if message.receiver != receiver:
        raise Refused("a COOKIE for another index")
    try:
        return crypto_secretbox_open(bytes(message.sealed), bytes(message.nonce), cookie_key)
    except CryptoError:
        raise Refused("a COOKIE that does not authenticate") from None
