# SPDX-License-Identifier: GPL-3.0-or-later
"""BLAKE2b in the loaded object against RFC 7693, the official vectors and hashlib."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from tests.bpf.loaded import Loaded
from tests.bpf.primitives import blake2b

# The protocol's: header tags 8, macs and cookies 16, keys 32, K ‖ N 48; Noise's 64.
DIGESTS = (8, 16, 32, 48, 64)
KEYS = (0, 16, 32, 64)
# DATA_KEYED's header 48, a box 109; messages up to mac1 and mac2 are 1216 to 1368; and
# every length around a block's end.
TEXTS = (*range(66), 109, *range(126, 131), *range(254, 259), 1200, 1216, 1352, 1368, 2048)


def drawn(label: str, size: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)


def test_hashlib_on_all_lengths(loaded: Loaded) -> None:
    for digest, key_bytes, text_bytes in itertools.product(DIGESTS, KEYS, TEXTS):
        key, text = drawn("key", key_bytes), drawn("text", text_bytes)
        expected = hashlib.blake2b(text, digest_size=digest, key=key).digest()
        assert blake2b(loaded, text, digest, key) == expected, (digest, key_bytes, text_bytes)


def test_every_digest_and_key_length(loaded: Loaded) -> None:
    text = drawn("text", 109)
    for size in range(1, 65):
        key = drawn("key", size)
        for digest in (size, 65 - size):
            expected = hashlib.blake2b(text, digest_size=digest, key=key).digest()
            assert blake2b(loaded, text, digest, key) == expected, (digest, size)


def test_the_digest_length_is_a_parameter(loaded: Loaded) -> None:
    """A shorter digest is another function, not a part of the longer one."""
    long, short = blake2b(loaded, b"text", 64, b"key"), blake2b(loaded, b"text", 8, b"key")
    assert long is not None
    assert short is not None
    assert not long.startswith(short)


@pytest.mark.parametrize(
    ("key_bytes", "expected"),
    [
        (0, "edb6025a7aba90e4ad1d5ccfc7485d26f988929ca564b1897e33d43a901efba2"),
        (64, "1ea7031a5a7e30868be784ec976e5b9677f27f22079303b158623d277187d4b0"),
    ],
)
def test_official_known_answers(loaded: Loaded, key_bytes: int, expected: str) -> None:
    """The 256 texts 00, 00 01, … of testvectors/blake2-kat.json (BLAKE2/BLAKE2, CC0), without
    a key and with 00 01 … 3f. Held here: SHA-256 over that file's answers, in its order."""
    answers = hashlib.sha256()
    for size in range(256):
        digest = blake2b(loaded, bytes(range(size)), 64, bytes(range(key_bytes)))
        assert digest is not None
        answers.update(digest)
    assert answers.hexdigest() == expected


def sequence(size: int, seed: int) -> bytes:
    """selftest_seq of RFC 7693, appendix E: a Fibonacci generator."""
    a, b = 0xDEAD4BAD * seed & 0xFFFFFFFF, 1
    out = bytearray()
    for _ in range(size):
        a, b = b, a + b & 0xFFFFFFFF
        out.append(b >> 24)
    return bytes(out)


def test_rfc7693_self_test(loaded: Loaded) -> None:
    """Appendix E: a digest over digests of many lengths, with and without keys."""
    answers = []
    for digest, size in itertools.product((20, 32, 48, 64), (0, 3, 128, 129, 255, 1024)):
        text = sequence(size, size)
        answers.append(blake2b(loaded, text, digest))
        answers.append(blake2b(loaded, text, digest, sequence(digest, digest)))
    joined = b"".join(answer for answer in answers if answer is not None)
    assert len(joined) == 2 * 6 * (20 + 32 + 48 + 64)
    assert blake2b(loaded, joined, 32) == bytes.fromhex(
        "c23a7800d98123bd10f506c61e29da5603d763b8bbad2e737f5e765a7bccd475"
    )


@pytest.mark.parametrize(
    ("digest", "key", "text"), [(0, 0, 1), (65, 0, 1), (32, 65, 1), (32, 0, 2049)]
)
def test_lengths_out_of_range_are_refused(loaded: Loaded, digest: int, key: int, text: int) -> None:
    assert blake2b(loaded, bytes(text), digest, bytes(key)) is None
