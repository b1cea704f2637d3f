# SPDX-License-Identifier: GPL-3.0-or-later
"""brine.messages: shape, macs and cookies of the exchange's messages."""

from __future__ import annotations

import ctypes
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brine import keys, messages
from brine.layout import Layout

KEY = b"k" * 32


def _noise(layout: Layout, name: str) -> bytes:
    shape = getattr(layout, name)
    return os.urandom(shape.mac1.offset - shape.ephemeral.offset)


@pytest.fixture
def initiation(layout: Layout) -> bytes:
    return messages.initiation(layout, 7, _noise(layout, messages.INITIATION), KEY)


@pytest.fixture
def response(layout: Layout) -> bytes:
    return messages.response(layout, 9, 7, _noise(layout, messages.RESPONSE), KEY)


@pytest.fixture
def cookie(layout: Layout) -> bytes:
    return messages.seal_cookie(layout, 7, KEY, b"c" * 16)


def test_an_initiation_reads_back(layout: Layout) -> None:
    noise = _noise(layout, messages.INITIATION)
    data = messages.initiation(layout, 0xFFFFFFFE, noise, KEY)
    assert messages.kind(layout, data) == messages.INITIATION
    assert messages.noise_part(layout, data) == noise
    assert messages.parse(layout, messages.INITIATION, data).sender == 0xFFFFFFFE
    assert data[:8] == bytes((1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF))
    assert messages.mac1(layout, data) == keys.mac(KEY, data[:-32])
    assert messages.mac2(layout, data) == bytes(16)


def test_a_response_reads_back(layout: Layout) -> None:
    noise = _noise(layout, messages.RESPONSE)
    data = messages.response(layout, 9, 7, noise, KEY)
    assert messages.kind(layout, data) == messages.RESPONSE
    assert messages.noise_part(layout, data) == noise
    assert data[:12] == bytes((2, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0))
    assert messages.receiver(layout, data) == 7
    assert messages.mac1_is_valid(layout, data, KEY)


def test_receivers_are_named_by_answers_only(
    layout: Layout, initiation: bytes, cookie: bytes
) -> None:
    assert messages.receiver(layout, cookie) == 7
    with pytest.raises(messages.MalformedMessage, match="no receiver"):
        messages.receiver(layout, initiation)


@pytest.mark.parametrize("fixture", ["initiation", "response", "cookie"])
def test_lengths_are_exact(layout: Layout, request: pytest.FixtureRequest, fixture: str) -> None:
    data: bytes = request.getfixturevalue(fixture)
    for wrong in (data[:-1], data + b"\0", data[:4], data[:1], data * 2):
        with pytest.raises(messages.MalformedMessage, match="wrong length"):
            messages.kind(layout, wrong)


@pytest.mark.parametrize("fixture", ["initiation", "response", "cookie"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_reserved_bytes_are_zero(
    layout: Layout, request: pytest.FixtureRequest, fixture: str, place: int
) -> None:
    data = bytearray(request.getfixturevalue(fixture))
    data[place] = 1
    with pytest.raises(messages.MalformedMessage, match="reserved"):
        messages.kind(layout, bytes(data))


@given(data=st.binary(max_size=2000))
def test_other_types_are_refused_whatever_follows(layout: Layout, data: bytes) -> None:
    if data[:1] in (b"\1", b"\2", b"\3"):
        data = b"\4" + data[1:]
    with pytest.raises(messages.MalformedMessage, match="no message"):
        messages.kind(layout, data)


def test_one_message_is_not_read_as_another(
    layout: Layout, initiation: bytes, cookie: bytes
) -> None:
    with pytest.raises(messages.MalformedMessage, match="instead of message_response"):
        messages.parse(layout, messages.RESPONSE, initiation)
    for call in (messages.mac1, messages.mac2, messages.noise_part):
        with pytest.raises(messages.MalformedMessage, match="no macs"):
            call(layout, cookie)


@pytest.mark.parametrize("fixture", ["initiation", "response"])
def test_mac1_covers_every_byte_before_it(
    layout: Layout, request: pytest.FixtureRequest, fixture: str
) -> None:
    data: bytes = request.getfixturevalue(fixture)
    assert messages.mac1_is_valid(layout, data, KEY)
    assert not messages.mac1_is_valid(layout, data, b"K" * 32)
    for place in range(4, len(data) - 16):
        forged = bytearray(data)
        forged[place] ^= 0x40
        assert not messages.mac1_is_valid(layout, bytes(forged), KEY), place


def test_mac2_covers_mac1_too(layout: Layout) -> None:
    value = b"c" * 16
    data = messages.initiation(layout, 7, _noise(layout, messages.INITIATION), KEY, value)
    assert messages.mac1_is_valid(layout, data, KEY)
    assert messages.mac2_is_valid(layout, data, value)
    assert not messages.mac2_is_valid(layout, data, b"C" * 16)
    for place in (8, len(data) - 32, len(data) - 1):
        forged = bytearray(data)
        forged[place] ^= 1
        assert not messages.mac2_is_valid(layout, bytes(forged), value), place


def test_without_a_cookie_mac2_is_zero_and_proves_nothing(
    layout: Layout, initiation: bytes
) -> None:
    assert messages.mac2(layout, initiation) == bytes(16)
    assert not messages.mac2_is_valid(layout, initiation, b"c" * 16)


def test_a_noise_message_of_other_length_does_not_fit(layout: Layout) -> None:
    noise = _noise(layout, messages.INITIATION)
    for wrong in (noise[:-1], noise + b"\0", b""):
        with pytest.raises(ValueError, match="Noise message"):
            messages.initiation(layout, 7, wrong, KEY)


def test_payloads_have_the_sizes_of_the_structs(layout: Layout) -> None:
    tag = layout.enum("wire_size")["TAG_SIZE"]
    first = messages.initiation_payload(b"t" * 12, 7, b"p" * 32)
    assert len(first) + tag == layout.message_initiation.payload.size
    assert messages.parse_initiation_payload(first) == (b"t" * 12, 7, b"p" * 32)
    second = messages.response_payload(9, b"p" * 32)
    assert len(second) + tag == layout.message_response.payload.size
    assert messages.parse_response_payload(second) == (9, b"p" * 32)
    for wrong in (b"t" * 11, b"t" * 13):
        with pytest.raises(ValueError, match="TAI64N"):
            messages.initiation_payload(wrong, 7, b"p" * 32)
    with pytest.raises(ValueError, match="32 bytes"):
        messages.response_payload(9, b"p" * 31)


def test_cookies_open_for_whom_they_are(layout: Layout, cookie: bytes) -> None:
    assert len(cookie) == ctypes.sizeof(layout.message_cookie)
    assert messages.open_cookie(layout, cookie, 7, KEY) == b"c" * 16
    with pytest.raises(messages.Refused, match="another index"):
        messages.open_cookie(layout, cookie, 8, KEY)
    with pytest.raises(messages.Refused, match="authenticate"):
        messages.open_cookie(layout, cookie, 7, b"K" * 32)
    for place in range(8, len(cookie)):
        forged = bytearray(cookie)
        forged[place] ^= 1
        with pytest.raises(messages.Refused, match="authenticate"):
            messages.open_cookie(layout, bytes(forged), 7, KEY)


def test_cookie_nonces_are_fresh(layout: Layout) -> None:
    made = {messages.seal_cookie(layout, 7, KEY, b"c" * 16) for _ in range(8)}
    assert len(made) == 8
