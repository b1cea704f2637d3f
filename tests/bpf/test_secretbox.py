# SPDX-License-Identifier: GPL-3.0-or-later
"""XSalsa20-Poly1305 and HSalsa20 in the loaded programs: libsodium is the judge."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

import nacl.bindings
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import vectors
from tests.bpf.loaded import Loaded
from tests.bpf.secretbox import Secretbox

KEY = bytes(range(100, 132))
PREFIX = bytes(range(16))
NONCE = 0xF1E2D3C4B5A69788
WORST = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def box(loaded: Loaded) -> Secretbox:
    return Secretbox(loaded)


def oracle(text: bytes, key: bytes = KEY, prefix: bytes = PREFIX, nonce: int = NONCE) -> bytes:
    return nacl.bindings.crypto_secretbox(text, prefix + struct.pack("<Q", nonce), key)


def pattern(length: int) -> bytes:
    """No two blocks alike."""
    return hashlib.shake_128(length.to_bytes(4, "little")).digest(length)


def lengths() -> Iterator[int]:
    """All short ones; then a byte around every Poly1305 block, and with it around every
    group of blocks and every Salsa20 block, to the largest."""
    yield from range(201)
    for edge in range(208, 9216, 16):
        yield from (edge - 1, edge, edge + 1)
    yield from (9215, 9216)


def test_seal_equals_libsodium_at_every_length(box: Secretbox) -> None:
    subkey = box.hsalsa20(KEY, PREFIX)
    for length in lengths():
        text = pattern(length)
        assert box.seal(subkey, NONCE, text) == oracle(text), length


def test_open_equals_libsodium_at_every_length(box: Secretbox) -> None:
    subkey = box.hsalsa20(KEY, PREFIX)
    for length in lengths():
        text = pattern(length)
        assert box.open(subkey, NONCE, oracle(text)) == text, length


@pytest.mark.parametrize("behind", [0, 1, 0xFF])
def test_what_lay_in_the_area_before_does_not_matter(box: Secretbox, behind: int) -> None:
    subkey = box.hsalsa20(KEY, PREFIX)
    for length in (0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1420, 9216):
        text = pattern(length)
        assert box.seal(subkey, NONCE, text, behind=behind) == oracle(text)
        assert box.open(subkey, NONCE, oracle(text), behind=behind) == text


@pytest.mark.parametrize("length", [0, 1, 16, 63, 64, 1420])
def test_every_bit_of_the_tag_counts(box: Secretbox, length: int) -> None:
    subkey = box.hsalsa20(KEY, PREFIX)
    sealed = oracle(pattern(length))
    for bit in range(128):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        assert box.open(subkey, NONCE, bytes(forged)) is None, bit


@pytest.mark.parametrize("length", [1, 16, 33, 80])
def test_every_bit_of_the_text_counts(box: Secretbox, length: int) -> None:
    subkey = box.hsalsa20(KEY, PREFIX)
    sealed = oracle(pattern(length))
    for bit in range(length * 8):
        forged = bytearray(sealed)
        forged[16 + bit // 8] ^= 1 << bit % 8
        assert box.open(subkey, NONCE, bytes(forged)) is None, bit


def test_length_is_authenticated(box: Secretbox) -> None:
    subkey = box.hsalsa20(KEY, PREFIX)
    sealed = oracle(bytes(64))
    assert box.open(subkey, NONCE, sealed[:-1]) is None
    assert box.open(subkey, NONCE, sealed + b"\0") is None
    assert box.open(subkey, NONCE, sealed[:16]) is None


def test_key_and_nonce_are_used_whole(box: Secretbox) -> None:
    subkey = box.hsalsa20(KEY, PREFIX)
    sealed = oracle(b"text")
    for bit in range(64):
        assert box.open(subkey, NONCE ^ 1 << bit, sealed) is None, bit
    for bit in range(256):
        other = bytearray(subkey)
        other[bit // 8] ^= 1 << bit % 8
        assert box.open(bytes(other), NONCE, sealed) is None, bit


def test_too_long_is_refused(box: Secretbox) -> None:
    assert not box.refuses(box.text_max)
    for length in (box.text_max + 1, 1 << 14, 1 << 31, (1 << 32) - 1):
        assert box.refuses(length)


@WORST
@given(
    key=st.binary(min_size=32, max_size=32),
    prefix=st.binary(min_size=16, max_size=16),
    nonce=st.integers(0, 2**64 - 1),
    text=st.binary(max_size=2000),
)
def test_any_key_nonce_and_text(
    loaded: Loaded, key: bytes, prefix: bytes, nonce: int, text: bytes
) -> None:
    box = Secretbox(loaded)
    subkey = box.hsalsa20(key, prefix)
    sealed = oracle(text, key, prefix, nonce)
    assert box.seal(subkey, nonce, text) == sealed
    assert box.open(subkey, nonce, sealed) == text


# Published vectors: the worked example of the NaCl paper, and libsodium's outputs of it.


def example() -> dict[str, bytes]:
    loaded = vectors.load("nacl/nacl.json")
    return {name: bytes.fromhex(text) for name, text in loaded.items() if name != "source"}


def test_hsalsa20_of_the_nacl_paper(box: Secretbox) -> None:
    nacl_paper = example()
    first = box.hsalsa20(nacl_paper["shared"], bytes(16))
    second = box.hsalsa20(first, nacl_paper["nonce"][:16])
    assert first == nacl_paper["first_key"] == vectors.libsodium("core1.exp")
    assert second == nacl_paper["second_key"] == vectors.libsodium("core2.exp")


def test_hsalsa20_is_libsodiums_beforenm(box: Secretbox) -> None:
    private, public = bytes(range(1, 33)), nacl.bindings.crypto_scalarmult_base(b"\7" * 32)
    shared = nacl.bindings.crypto_scalarmult(private, public)
    assert box.hsalsa20(shared, bytes(16)) == nacl.bindings.crypto_box_beforenm(public, private)


def test_secretbox_of_libsodium(box: Secretbox) -> None:
    nacl_paper = example()
    subkey = box.hsalsa20(nacl_paper["first_key"], nacl_paper["nonce"][:16])
    nonce = int.from_bytes(nacl_paper["nonce"][16:], "little")
    message = vectors.libsodium("secretbox2.exp")
    sealed = vectors.libsodium("secretbox.exp")[: 16 + len(message)]
    assert box.seal(subkey, nonce, message) == sealed
    assert box.open(subkey, nonce, sealed) == message


def test_stream_of_libsodium(box: Secretbox) -> None:
    nacl_paper = example()
    nonce = int.from_bytes(nacl_paper["nonce"][16:], "little")
    stream = box.keystream(nacl_paper["second_key"], nonce, 9248)
    assert stream[:32] == vectors.libsodium("stream3.exp") == nacl_paper["authenticator_key"]
    message = vectors.libsodium("secretbox2.exp")
    masked = vectors.libsodium("stream4.exp")
    assert bytes(a ^ b for a, b in zip(message, stream[32:], strict=False)) == masked
    # stream.c: lines 3 to 66 are the first 0, 1 … 63 bytes over a filling
    prefixes = vectors.libsodium_lines("stream.exp")[2:66]
    assert len(prefixes) == 64
    for length, line in enumerate(prefixes):
        assert line == stream[:length] + bytes([length]) * (64 - length)
