# SPDX-License-Identifier: GPL-3.0-or-later
"""brine.keys against published vectors and against libsodium, through PyNaCl."""

from __future__ import annotations

import base64
from typing import Any

import nacl.public
import nacl.secret
import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305
from hypothesis import given
from hypothesis import strategies as st

from brine import keys
from tests import vectors

PRIVATE = st.binary(min_size=32, max_size=32)
KEY = st.binary(min_size=32, max_size=32)
NACL = {name: value for name, value in vectors.load("nacl/nacl.json").items() if name != "source"}
NACL = {name: bytes.fromhex(value) for name, value in NACL.items()}
RFC7748 = vectors.load("rfc7748/x25519.json")


# X25519


@pytest.mark.parametrize("case", RFC7748["multiplication"], ids=["first", "second"])
def test_x25519_multiplies_as_rfc_7748(case: dict[str, str]) -> None:
    result = keys.x25519(bytes.fromhex(case["scalar"]), bytes.fromhex(case["u"]))
    assert result.hex() == case["result"]


def test_x25519_iterates_as_rfc_7748() -> None:
    scalar = u = bytes.fromhex(RFC7748["iteration"]["start"])
    seen = {}
    for count in range(1, 1001):
        scalar, u = keys.x25519(scalar, u), scalar
        seen[count] = scalar.hex()
    assert seen[1] == RFC7748["iteration"]["after"]["1"]
    assert seen[1000] == RFC7748["iteration"]["after"]["1000"]


def test_public_keys_and_agreement_as_rfc_7748() -> None:
    case = {name: bytes.fromhex(value) for name, value in RFC7748["agreement"].items()}
    assert keys.public_key(case["alice_private"]) == case["alice_public"]
    assert keys.public_key(case["bob_private"]) == case["bob_public"]
    assert keys.x25519(case["alice_private"], case["bob_public"]) == case["shared"]
    assert keys.x25519(case["bob_private"], case["alice_public"]) == case["shared"]


def test_all_cases_of_wycheproof_are_there() -> None:
    assert len(vectors.wycheproof("x25519_test.json")) == 518


@pytest.mark.parametrize(
    "case", vectors.wycheproof("x25519_test.json"), ids=lambda case: str(case["tcId"])
)
def test_x25519_as_wycheproof(case: dict[str, Any]) -> None:
    private, public = bytes.fromhex(case["private"]), bytes.fromhex(case["public"])
    if "ZeroSharedSecret" in case["flags"]:  # "acceptable" there, never here
        with pytest.raises(keys.LowOrderPoint):
            keys.x25519(private, public)
        with pytest.raises(keys.LowOrderPoint):
            keys.beforenm(private, public)
    else:
        shared = bytes.fromhex(case["shared"])
        assert keys.x25519(private, public) == shared
        assert keys.beforenm(private, public) == keys.hsalsa20(shared, bytes(16))


def test_agreement_as_libsodium() -> None:
    alice, bob, shared, again, top_bit = vectors.libsodium_lines("scalarmult.exp")
    assert keys.public_key(NACL["alice_private"]) == alice
    assert bob == NACL["bob_public"]
    assert keys.x25519(NACL["alice_private"], bob) == shared == again == top_bit
    assert vectors.libsodium("scalarmult6.exp") == shared


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_other_sizes_are_refused(size: int) -> None:
    wrong, right = bytes(size), keys.generate_private()
    for private, public in ((wrong, right), (right, wrong)):
        with pytest.raises(ValueError, match=f"{size} bytes"):
            keys.x25519(private, public)
        with pytest.raises(ValueError, match=f"{size} bytes"):
            keys.beforenm(private, public)
    with pytest.raises(ValueError, match=f"{size} bytes"):
        keys.public_key(wrong)


# HSalsa20 and the box's precomputation


def test_hsalsa20_as_the_nacl_paper_and_libsodium() -> None:
    assert keys.hsalsa20(NACL["shared"], bytes(16)) == NACL["first_key"]
    assert NACL["first_key"] == vectors.libsodium("core1.exp")
    assert keys.hsalsa20(NACL["first_key"], NACL["nonce"][:16]) == NACL["second_key"]
    assert NACL["second_key"] == vectors.libsodium("core2.exp")


def test_beforenm_and_subkey_as_the_nacl_paper() -> None:
    assert keys.beforenm(NACL["alice_private"], NACL["bob_public"]) == NACL["first_key"]
    box = keys.Box(NACL["first_key"], NACL["nonce"][:16])
    assert keys.subkey(box) == NACL["second_key"]


def test_the_papers_box_and_secretbox_are_those_of_libsodium() -> None:
    """Ties the three files together, which the tests of the BPF programs use."""
    plain, sealed = vectors.libsodium("secretbox2.exp"), vectors.libsodium("secretbox.exp")
    sealed = sealed[: len(sealed) // 2]  # printed twice there
    first = keys.beforenm(NACL["alice_private"], NACL["bob_public"])
    assert bytes(nacl.secret.SecretBox(first).encrypt(plain, NACL["nonce"]).ciphertext) == sealed
    assert vectors.libsodium("box.exp")[: len(sealed)] == sealed
    tag, ciphertext = sealed[:16], sealed[16:]
    assert vectors.libsodium("stream4.exp") == ciphertext
    assert vectors.libsodium("stream3.exp") == NACL["authenticator_key"]
    assert Poly1305.generate_tag(NACL["authenticator_key"], ciphertext) == tag


@given(PRIVATE, PRIVATE)
def test_beforenm_is_nacls_and_the_same_on_both_sides(one: bytes, other: bytes) -> None:
    if keys.public_key(one) == keys.public_key(other):
        return
    ours = keys.beforenm(one, keys.public_key(other))
    assert ours == keys.beforenm(other, keys.public_key(one))
    assert (
        ours
        == nacl.public.Box(
            nacl.public.PrivateKey(one), nacl.public.PublicKey(keys.public_key(other))
        ).shared_key()
    )


def test_our_own_key_is_refused_as_the_peers() -> None:
    private = keys.generate_private()
    with pytest.raises(ValueError, match="our own"):
        keys.beforenm(private, keys.public_key(private))


# Boxes


@given(KEY, KEY, KEY, KEY, st.integers(0, 255), st.integers(0, 255))
def test_both_ends_derive_equal_boxes_and_no_two_directions_share_one(
    secret: bytes, dh: bytes, one: bytes, other: bytes, sgen: int, rgen: int
) -> None:
    box = keys.derive_box(secret, sgen, rgen, dh, one, other)
    assert (len(box.key), len(box.nonce)) == (32, 16)
    assert box == keys.derive_box(secret, sgen, rgen, dh, one, other)
    back = keys.derive_box(secret, rgen, sgen, dh, other, one)
    assert (box == back) == (one == other and sgen == rgen)


@pytest.mark.parametrize("generations", [(256, 0), (0, 256), (-1, 0)])
def test_generations_are_u8(generations: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="range"):
        keys.derive_box(bytes(32), *generations, bytes(32), bytes(32), bytes(32))


@given(st.integers(0, 15), st.integers(0, (1 << 56) - 1), st.integers(0, 15))
def test_nonces_of_a_box_never_meet(lane: int, counter: int, other: int) -> None:
    nonce = keys.box_nonce(b"n" * 16, lane, counter)
    assert nonce[:16] == b"n" * 16
    assert nonce[16:23] == counter.to_bytes(7, "little")
    assert nonce[23] == lane
    assert (nonce == keys.box_nonce(b"n" * 16, other, counter)) == (lane == other)


@pytest.mark.parametrize(("lane", "counter"), [(16, 0), (-1, 0), (0, 1 << 56), (0, -1)])
def test_lanes_and_counters_have_limits(lane: int, counter: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        keys.box_nonce(bytes(16), lane, counter)


# Macs


def test_a_mac_wants_a_key() -> None:
    for size in (0, 15, 17, 31, 33, 64):
        with pytest.raises(ValueError, match=f"{size} bytes"):
            keys.mac(bytes(size), b"data")


@pytest.mark.parametrize(
    "call",
    [
        lambda: keys.header_tag(bytes(32), bytes(15), bytes(32)),
        lambda: keys.header_tag(bytes(32), bytes(16), bytes(31)),
        lambda: keys.header_tag(b"", bytes(16), bytes(32)),
        lambda: keys.association_keys(bytes(32), bytes(64)),
        lambda: keys.association_keys(bytes(64), bytes(32)),
        lambda: keys.mac1_key(b"", bytes(32)),
        lambda: keys.mac1_key(bytes(32), b""),
        lambda: keys.cookie_key(bytes(32), bytes(32), bytes(15)),
        lambda: keys.cookie(bytes(32), bytes(4), 1),
        lambda: keys.cookie(b"", bytes(16), 1),
        lambda: keys.derive_box(b"", 0, 0, bytes(32), bytes(32), bytes(32)),
        lambda: keys.derive_box(bytes(32), 0, 0, bytes(32), bytes(31), bytes(33)),
    ],
)
def test_fields_are_never_shifted_by_wrong_lengths(call: Any) -> None:
    with pytest.raises(ValueError, match="bytes instead of"):
        call()


# Text


@given(KEY)
def test_keys_survive_their_text(key: bytes) -> None:
    if any(key):
        assert keys.parse_key(f" {keys.show_key(key)}\n") == key
    else:
        with pytest.raises(ValueError, match="all zeros"):
            keys.parse_key(keys.show_key(key))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "0 bytes"),
        ("secret key!", "base64"),
        ("schlüssel", "base64"),
        (base64.b64encode(b"s" * 31).decode(), "31 bytes"),
        (base64.b64encode(b"s" * 33).decode(), "33 bytes"),
        (base64.b64encode(bytes(32)).decode(), "zeros"),
    ],
)
def test_bad_keys_are_explained_without_their_value(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        keys.parse_key(text)
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None  # binascii's message may quote it


def test_a_key_id_is_16_digits() -> None:
    shown = keys.key_id(NACL["bob_public"])
    assert len(shown) == 16
    assert set(shown) <= set("0123456789abcdef")
    assert shown != keys.key_id(NACL["alice_private"])


def test_no_repr_shows_a_secret() -> None:
    secret = keys.generate_private()
    shown = repr(keys.Box(secret, secret[:16])) + repr(keys.AssociationKeys(secret, secret, secret))
    assert repr(secret)[2:-1] not in shown
    assert secret.hex() not in shown


def test_new_private_keys_differ() -> None:
    assert len({keys.generate_private() for _ in range(8)}) == 8
