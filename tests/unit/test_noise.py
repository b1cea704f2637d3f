# SPDX-License-Identifier: GPL-3.0-or-later
"""brine.noise against the vectors of other implementations, and ML-KEM against Wycheproof."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from brine import exchange, keys
from brine.noise import (
    KEM_CIPHERTEXT_BYTES,
    Handshake,
    NoiseError,
    kem_encapsulate,
    kem_public,
    pattern,
)
from tests import vectors

PUBLISHED = [
    (source, vector)
    for source in ("cacophony", "snow")
    for vector in vectors.load(f"noise/{source}.json")["vectors"]
]


def _side(vector: dict[str, Any], initiator: bool) -> Handshake:
    side = "init" if initiator else "resp"

    def get(name: str) -> bytes | None:
        return bytes.fromhex(vector[f"{side}_{name}"]) if f"{side}_{name}" in vector else None

    return Handshake(
        pattern(vector["protocol_name"]),
        initiator,
        bytes.fromhex(vector[f"{side}_prologue"]),
        static=get("static"),
        remote_static=get("remote_static"),
        psks=tuple(map(bytes.fromhex, vector.get(f"{side}_psks", []))),
        ephemeral=get("ephemeral"),
    )


def test_the_published_vectors_are_there() -> None:
    assert len(PUBLISHED) == 64
    names = {vector["protocol_name"].split("_")[1] for _, vector in PUBLISHED}
    assert {"NN", "XX", "IK", "IKpsk1", "IKpsk2", "IKpsk0+psk2", "NNpsk0", "KKpsk0"} <= names


@pytest.mark.parametrize(
    ("source", "vector"),
    PUBLISHED,
    ids=lambda value: value if isinstance(value, str) else value["protocol_name"].split("_")[1],
)
def test_handshakes_as_published(source: str, vector: dict[str, Any]) -> None:
    initiator, responder = _side(vector, True), _side(vector, False)
    messages = [
        (bytes.fromhex(one["payload"]), bytes.fromhex(one["ciphertext"]))
        for one in vector["messages"]
    ]
    writer, reader = initiator, responder
    while not initiator.complete:
        payload, ciphertext = messages.pop(0)
        assert writer.write(payload) == ciphertext
        assert reader.read(ciphertext) == payload
        writer, reader = reader, writer
    assert responder.complete
    assert initiator.symmetric.hash == responder.symmetric.hash
    if source == "cacophony":
        assert initiator.symmetric.hash.hex() == vector["handshake_hash"]
    # What follows shows the chaining key. One-way patterns go on in their one direction.
    ciphers = initiator.symmetric.split(), responder.symmetric.split()
    one_way = len(pattern(vector["protocol_name"]).messages) == 1
    direction = 0 if one_way or writer is initiator else 1
    assert messages
    for payload, ciphertext in messages:
        assert ciphers[direction][direction].encrypt(b"", payload) == ciphertext
        assert ciphers[1 - direction][direction].decrypt(b"", ciphertext) == payload
        direction = 0 if one_way else 1 - direction


@pytest.mark.parametrize("vector", vectors.load("noise/xxhfs.json")["vectors"])
def test_hybrid_forward_secrecy_as_published(vector: dict[str, str]) -> None:
    """From the initiator's side: an encapsulation cannot be repeated here."""
    value = {name: bytes.fromhex(text) for name, text in vector.items() if name != "protocol_name"}
    kem = MLKEM768PrivateKey.from_seed_bytes(value["init_kem_seed"])
    initiator = Handshake(
        pattern(vector["protocol_name"]),
        True,
        value["init_prologue"],
        static=value["init_static"],
        ephemeral=value["init_ephemeral"],
        kem=kem,
    )
    assert initiator.write(b"") == keys.public_key(value["init_ephemeral"]) + kem_public(kem)
    assert initiator.read(value["message_b"]) == b""
    assert initiator.remote_static == value["resp_static_public"]
    assert initiator.write(b"") == value["message_c"]
    assert initiator.symmetric.hash == value["handshake_hash"]
    first, second = initiator.symmetric.split()
    assert (first.key, second.key) == (value["cipher_1"], value["cipher_2"])


def test_the_pattern_of_brine_is_the_protocols() -> None:
    made = pattern(exchange.PROTOCOL)
    assert made.messages == (
        ("psk", "e", "es", "e1", "s", "ss"),
        ("e", "ee", "ekem1", "se"),
    )
    assert made.psk
    assert (made.initiator_known, made.responder_known, made.hash) == ("", "s", "blake2b")


@pytest.mark.parametrize(
    "name",
    [
        "Noise_IK_448_ChaChaPoly_BLAKE2b",
        "Noise_IK_25519_AESGCM_BLAKE2b",
        "Noise_IK_25519_ChaChaPoly_BLAKE2s",
        "Noise_IK1_25519_ChaChaPoly_BLAKE2b",
        "Noise_ZZ_25519_ChaChaPoly_BLAKE2b",
        "Noise_IKpsk3_25519_ChaChaPoly_BLAKE2b",
        "Noise_IKfallback_25519_ChaChaPoly_BLAKE2b",
        "Noise_IKhfs_25519_ChaChaPoly_BLAKE2b",
        "Noise_IK_25519+MLKEM768_ChaChaPoly_BLAKE2b",
        "Noise_Nhfs_25519+MLKEM768_ChaChaPoly_BLAKE2b",
        "Quiet_IK_25519_ChaChaPoly_BLAKE2b",
        "Noise_IK_25519_ChaChaPoly",
    ],
)
def test_other_protocols_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"support|psk3|hfs|KEM"):
        pattern(name)


# Order, state, refusals


def _ik(psk: bytes = bytes(32)) -> tuple[Handshake, Handshake, bytes]:
    initiator, responder = keys.generate_private(), keys.generate_private()
    made = pattern(exchange.PROTOCOL)
    return (
        Handshake(
            made,
            True,
            b"",
            static=initiator,
            remote_static=keys.public_key(responder),
            psks=(psk,),
        ),
        Handshake(made, False, b"", static=responder, psks=(psk,)),
        keys.public_key(initiator),
    )


def test_a_responder_can_stop_when_it_knows_who_sends() -> None:
    initiator, responder, identity = _ik()
    rest = responder.read_tokens(initiator.write(b"payload"), until="s")
    assert responder.remote_static == identity
    with pytest.raises(RuntimeError, match="tokens are left"):
        responder.read_payload(rest)
    assert responder.read_payload(responder.read_tokens(rest)) == b"payload"
    with pytest.raises(RuntimeError, match="turn"):
        responder.read(b"")


def test_turns_are_kept() -> None:
    initiator, responder, _ = _ik()
    with pytest.raises(RuntimeError, match="turn"):
        initiator.read(b"")
    with pytest.raises(RuntimeError, match="turn"):
        responder.write(b"")
    message = initiator.write(b"")
    with pytest.raises(RuntimeError, match="no e1"):
        responder.read_tokens(responder.read_tokens(message, until="s"), until="e1")


@given(st.data())
def test_a_fork_keeps_the_state_that_a_forgery_spoils(data: st.DataObject) -> None:
    initiator, responder, _ = _ik()
    responder.read(initiator.write(b""))
    answer = responder.write(b"answer")
    place = data.draw(st.integers(0, len(answer) - 1))
    forged = bytearray(answer)
    forged[place] ^= 1 << data.draw(st.integers(0, 7))
    before = initiator.symmetric.hash, initiator.symmetric.chaining_key
    # The top bit of the ephemeral key is no part of the point, but of the hash.
    with pytest.raises(NoiseError):
        initiator.fork().read(bytes(forged))
    with pytest.raises(NoiseError):
        initiator.fork().read(answer[:place])
    assert (initiator.symmetric.hash, initiator.symmetric.chaining_key) == before
    assert initiator.read(answer) == b"answer"
    assert initiator.symmetric.chaining_key == responder.symmetric.chaining_key


def test_another_psk_does_not_open() -> None:
    initiator, _, _ = _ik(b"1" * 32)
    _, responder, _ = _ik(b"2" * 32)
    with pytest.raises(NoiseError):
        responder.read_tokens(initiator.write(b""), until="s")


def test_an_ephemeral_key_of_low_order_is_refused() -> None:
    initiator, responder, _ = _ik()
    message = initiator.write(b"")
    with pytest.raises(NoiseError, match="low order"):
        responder.read(bytes(32) + message[32:])


def test_no_repr_shows_a_key() -> None:
    initiator, _, _ = _ik()
    initiator.write(b"")
    assert "key=" not in repr(initiator.symmetric.cipher)


# ML-KEM-768


@pytest.mark.parametrize(
    "case",
    [one for one in vectors.wycheproof("mlkem_768_test.json") if len(one["seed"]) == 128],
    ids=lambda case: str(case["tcId"]),
)
def test_decapsulation_as_wycheproof(case: dict[str, Any]) -> None:
    private = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(case["seed"]))
    ciphertext = bytes.fromhex(case["c"])
    if case["result"] == "valid":
        assert kem_public(private).hex() == case["ek"]
        assert private.decapsulate(ciphertext).hex() == case["K"]
    else:
        assert len(ciphertext) != KEM_CIPHERTEXT_BYTES  # Noise never hands such a one on
        with pytest.raises(ValueError, match="ciphertext"):
            private.decapsulate(ciphertext)


@pytest.mark.parametrize(
    "case",
    vectors.wycheproof("mlkem_768_encaps_test.json"),
    ids=lambda case: str(case["tcId"]),
)
def test_the_key_check_of_fips_203_as_wycheproof(case: dict[str, Any]) -> None:
    public = bytes.fromhex(case["ek"])
    if case["result"] == "valid":
        ciphertext, secret = kem_encapsulate(public)
        assert (len(ciphertext), len(secret)) == (KEM_CIPHERTEXT_BYTES, 32)
    else:
        with pytest.raises(NoiseError, match="not canonical"):
            kem_encapsulate(public)


def test_the_refused_keys_are_the_ones_we_think_of() -> None:
    refused = [
        one
        for one in vectors.wycheproof("mlkem_768_encaps_test.json")
        if one["result"] == "invalid" and len(one["ek"]) == 2 * 1184
    ]
    assert len(refused) > 100  # right length, a coefficient of q or more


def test_a_key_is_encapsulated_to_and_opened() -> None:
    private = MLKEM768PrivateKey.generate()
    ciphertext, secret = kem_encapsulate(kem_public(private))
    assert private.decapsulate(ciphertext) == secret
