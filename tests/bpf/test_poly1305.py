# SPDX-License-Identifier: GPL-3.0-or-later
"""Poly1305 in the loaded programs: the definition, OpenSSL, RFC 8439 and the edges."""

from __future__ import annotations

import itertools

import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bpf.loaded import Loaded
from tests.bpf.secretbox import Secretbox

P = 2**130 - 5
CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
ONES = 2**128 - 1


def definition(key: bytes, text: bytes) -> bytes:
    """Bernstein 2005, section 2, in integers."""
    r = int.from_bytes(key[:16], "little") & CLAMP
    h = 0
    for at in range(0, len(text), 16):
        h = (h + int.from_bytes(text[at : at + 16] + b"\1", "little")) * r % P
    return ((h + int.from_bytes(key[16:], "little")) & ONES).to_bytes(16, "little")


@pytest.fixture
def box(loaded: Loaded) -> Secretbox:
    return Secretbox(loaded)


def word(value: int) -> bytes:
    return value.to_bytes(16, "little")


# RFC 8439, appendix A.3, vectors 7 to 11: (r, s, text, tag), and 1
RFC8439 = [
    (0, 0, bytes(64), word(0)),
    (1, 0, b"\xff" * 16 + b"\xf0" + b"\xff" * 15 + b"\x11" + bytes(15), word(5)),
    (1, 0, b"\xff" * 16 + b"\xfb" + b"\xfe" * 15 + b"\1" * 16, word(0)),
    (2, 0, b"\xfd" + b"\xff" * 15, word(2**128 - 6)),
    (2, 0, b"\xff" * 16, word(3)),
    (2, ONES, b"\2" + bytes(15), word(3)),
    (
        1 | 4 << 64,
        0,
        bytes.fromhex(
            "e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000"
        )
        + bytes(8)
        + b"\1"
        + bytes(15),
        bytes.fromhex("14000000000000005500000000000000"),
    ),
    (
        1 | 4 << 64,
        0,
        bytes.fromhex(
            "e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000"
        )
        + bytes(8),
        bytes.fromhex("13000000000000000000000000000000"),
    ),
]


@pytest.mark.parametrize(("r", "s", "text", "tag"), RFC8439)
def test_rfc_8439(box: Secretbox, r: int, s: int, text: bytes, tag: bytes) -> None:
    assert definition(word(r) + word(s), text) == tag
    assert box.poly1305(word(r) + word(s), text) == tag


@pytest.mark.parametrize("offset", range(-12, 13))
@pytest.mark.parametrize("full_blocks", [1, 2, 4, 5])
def test_sum_around_p(box: Secretbox, offset: int, full_blocks: int) -> None:
    """r = 1 makes the tag the blocks' sum mod p: aim it at p and at multiples of 2^128."""
    for target in (P, 2 * P, 2**130, 2**129, 2**128 + 2**130):
        want = target + offset
        rest = want - full_blocks * 2**128
        if rest < 0 or rest > full_blocks * ONES:
            continue
        share, more = divmod(rest, full_blocks)
        blocks = [share + (number < more) for number in range(full_blocks)]
        text = b"".join(map(word, blocks))
        for s in (0, 1, ONES):
            assert box.poly1305(word(1) + word(s), text) == definition(word(1) + word(s), text)


def test_extremes_of_r_and_text(box: Secretbox) -> None:
    """All-ones and single-limb r against all-ones, zero and one-limb blocks: the largest
    products and carries that the limb bounds in poly1305.h speak of."""
    limbs = [0xFFFFFFFF << 32 * limb for limb in range(4)]
    rs = [ONES, 0, 1, 2, 3, *limbs, ONES ^ 0xFFFFFFFF, 0x0FFFFFFC << 96 | 3]
    blocks = [word(value) for value in (ONES, 0, 1, ONES - 4, *limbs)]
    for r in rs:
        for count in (1, 2, 3, 4, 5, 8, 9):
            for block in blocks:
                for tail in (b"", b"\xff", b"\0" * 15, b"\xff" * 15):
                    key = word(r) + word(ONES)
                    text = block * count + tail
                    assert box.poly1305(key, text) == definition(key, text), (hex(r), text)


def test_long_runs_keep_the_bounds(box: Secretbox) -> None:
    for r, fill in itertools.product((ONES, CLAMP, 0x0FFFFFFC << 96), (0xFF, 0x00, 0xFB)):
        key = word(r) + word(0)
        text = bytes([fill]) * 9216
        assert box.poly1305(key, text) == definition(key, text)


def test_final_carry_chains(box: Secretbox) -> None:
    """h + s over every carry of the last addition."""
    for s in (0, 1, 2**32 - 1, 2**64 - 1, 2**96 - 1, ONES, ONES - 1, 1 << 127):
        for h in (0, 1, 2**32 - 1, 2**64 - 1, 2**96 - 1, ONES):
            key = word(1) + word(s)
            assert box.poly1305(key, word(h)) == definition(key, word(h))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    key=st.binary(min_size=32, max_size=32),
    text=st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([0x00, 0xFF, 0xFB, 0x01]), max_size=200).map(bytes),
    ),
)
def test_openssl_agrees(loaded: Loaded, key: bytes, text: bytes) -> None:
    assert Secretbox(loaded).poly1305(key, text) == Poly1305.generate_tag(key, text)
