# SPDX-License-Identifier: GPL-3.0-or-later
"""brine.exchange: both sides agree, and refuse what protocol.md says they refuse."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from nacl.secret import SecretBox

from brine import exchange, keys, messages, noise
from brine.exchange import Credential, ExchangeKeys, Initiator, Refused, Responder
from brine.layout import Layout
from tests.unit.exchange_pair import PSK, TIMESTAMP, Host, Pair, opposite


@pytest.fixture
def pair(layout: Layout) -> Pair:
    return Pair(layout)


@pytest.mark.parametrize("psk", [PSK, exchange.NO_PSK], ids=["secret", "no secret"])
def test_both_sides_establish_the_same(layout: Layout, psk: bytes) -> None:
    pair = Pair(layout, psk)
    ours, theirs = pair.run()
    assert opposite(ours, theirs)
    assert ours.initiated
    assert ours.peer_identity == pair.bob.public
    assert (ours.local_index, ours.remote_index) == (0x11111111, 0x22222222)
    nonce = keys.box_nonce(ours.send.nonce, 0, 0)
    sealed = SecretBox(ours.send.key).encrypt(b"hello", nonce).ciphertext
    opening = keys.box_nonce(theirs.receive.nonce, 0, 0)
    assert SecretBox(theirs.receive.key).decrypt(sealed, opening) == b"hello"


def test_nothing_repeats_from_one_exchange_to_the_next(pair: Pair) -> None:
    one, other = pair.run()[0], pair.run()[0]
    for name in ("secret", "send_header_key", "own_private", "send", "receive", "peer_public"):
        assert getattr(one, name) != getattr(other, name), name
    assert pair.initiator().message != pair.initiator().message


def test_the_opened_initiation_says_who_and_when(pair: Pair) -> None:
    opened = pair.responder.open_initiation(pair.initiator().message)
    assert opened.identity == pair.alice.public
    assert opened.timestamp == TIMESTAMP
    assert opened.sender_index == 0x11111111
    assert opened.credential.public == pair.bob.public


def test_every_answer_to_one_initiation_is_another(pair: Pair) -> None:
    """What a caller decides twice must not reuse a key."""
    opened = pair.responder.open_initiation(pair.initiator().message)
    (first, one), (second, other) = (pair.responder.respond(opened, 5) for _ in range(2))
    assert first != second
    assert one.secret != other.secret


# The initiator


def test_a_second_response_is_refused(pair: Pair) -> None:
    initiator = pair.initiator()
    response, _ = pair.responder.respond(pair.responder.open_initiation(initiator.message), 5)
    initiator.consume(response)
    with pytest.raises(Refused, match="second"):
        initiator.consume(response)


def test_a_forged_response_changes_nothing(pair: Pair) -> None:
    initiator = pair.initiator()
    response, theirs = pair.responder.respond(pair.responder.open_initiation(initiator.message), 5)
    for place in [*range(0, len(response), 37), len(response) - 17, len(response) - 1]:
        forged = bytearray(response)
        forged[place] ^= 0x80
        with pytest.raises(Refused):
            initiator.consume(bytes(forged))
        with pytest.raises(Refused):
            initiator.consume(response[:place])
    assert opposite(initiator.consume(response), theirs)


def _remac(layout: Layout, message: bytes, key: bytes) -> bytes:
    """With a mac1 that fits: what an insider, or anyone without a mesh secret, can do."""
    shape = getattr(layout, messages.kind(layout, message))
    before = message[: shape.mac1.offset]
    return before + keys.mac(key, before) + messages.NO_MAC2


def test_a_forged_response_with_a_good_mac1_is_refused(pair: Pair) -> None:
    initiator = pair.initiator()
    response, theirs = pair.responder.respond(pair.responder.open_initiation(initiator.message), 5)
    key = keys.mac1_key(PSK, pair.alice.public)
    shape = pair.layout.message_response
    for name in ("sender", "receiver", "ephemeral", "kem_ciphertext", "payload"):
        for place in (getattr(shape, name).offset, getattr(shape, name).offset + 3):
            forged = bytearray(response)
            forged[place] ^= 1
            with pytest.raises(Refused):
                initiator.consume(_remac(pair.layout, bytes(forged), key))
    assert opposite(initiator.consume(response), theirs)


def test_a_response_to_another_initiation_is_refused(pair: Pair) -> None:
    one, other = pair.initiator(), pair.initiator()
    response, _ = pair.responder.respond(pair.responder.open_initiation(other.message), 5)
    with pytest.raises(Refused, match="authenticate"):
        one.consume(response)


def test_our_own_identity_is_no_peer(pair: Pair) -> None:
    with pytest.raises(ValueError, match="our own"):
        Initiator(pair.layout, pair.bob.private, pair.bob.public, PSK, 1, TIMESTAMP)


def test_a_peer_of_low_order_is_an_error_in_the_roster(pair: Pair) -> None:
    with pytest.raises(ValueError, match="low order"):
        Initiator(pair.layout, pair.bob.private, bytes(32), PSK, 1, TIMESTAMP)


# The responder


def test_an_initiation_with_any_bit_flipped_is_refused(pair: Pair) -> None:
    message = pair.initiator().message
    mac2 = pair.layout.message_initiation.mac2.offset
    for place in range(mac2):  # mac2 is looked at under load only
        forged = bytearray(message)
        forged[place] ^= 1 << place % 8
        with pytest.raises(Refused):
            pair.responder.open_initiation(bytes(forged))
    assert pair.responder.open_initiation(message).identity == pair.alice.public


def test_an_initiation_with_a_good_mac1_is_still_authenticated(pair: Pair) -> None:
    message = pair.initiator().message
    key = keys.mac1_key(PSK, pair.bob.public)
    shape = pair.layout.message_initiation
    for name in ("sender", "ephemeral", "kem_key", "identity", "payload"):
        for place in (0, getattr(shape, name).size - 1):
            forged = bytearray(message)
            forged[getattr(shape, name).offset + place] ^= 1
            with pytest.raises(Refused):
                pair.responder.open_initiation(_remac(pair.layout, bytes(forged), key))


def test_an_ephemeral_key_of_low_order_is_refused(pair: Pair) -> None:
    message = bytearray(pair.initiator().message)
    shape = pair.layout.message_initiation
    message[shape.ephemeral.offset : shape.ephemeral.offset + 32] = bytes(32)
    key = keys.mac1_key(PSK, pair.bob.public)
    with pytest.raises(Refused, match="low order"):
        pair.responder.open_initiation(_remac(pair.layout, bytes(message), key))


def test_strangers_are_refused(pair: Pair) -> None:
    message = pair.initiator().message
    pair.roster.remove(pair.alice.public)
    with pytest.raises(Refused, match="outside the roster"):
        pair.responder.open_initiation(message)


def test_the_roster_is_asked_before_anything_dear(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One X25519 (es) for a stranger; two (es, ss) and no KEM before the caller decides."""
    made: list[bytes] = []

    def counted(private: bytes, public: bytes) -> bytes:
        made.append(public)
        return keys.x25519(private, public)

    def dear(_public: bytes) -> tuple[bytes, bytes]:
        raise AssertionError("encapsulated before the caller decided")

    message = pair.initiator().message
    monkeypatch.setattr(noise, "x25519", counted)
    monkeypatch.setattr(noise, "kem_encapsulate", dear)
    pair.responder.open_initiation(message)
    assert len(made) == 2
    made.clear()
    pair.roster.clear()
    with pytest.raises(Refused, match="roster"):
        pair.responder.open_initiation(message)
    assert len(made) == 1
    made.clear()
    with pytest.raises(Refused, match="mac1"):
        pair.responder.open_initiation(message[:-17] + b"\0" + message[-16:])
    assert not made


def test_our_own_identity_is_refused_as_the_initiator(pair: Pair) -> None:
    """Alice's initiation to Bob, when both keys turn out to be one host's."""
    message = pair.initiator().message
    both = Responder(
        pair.layout,
        [Credential(pair.bob.private, PSK), Credential(pair.alice.private, PSK)],
        pair.roster.__contains__,
    )
    with pytest.raises(Refused, match="our own identity"):
        both.open_initiation(message)


def test_another_mesh_secret_is_not_even_recognised(pair: Pair) -> None:
    other = Responder(pair.layout, [Credential(pair.bob.private)], pair.roster.__contains__)
    with pytest.raises(Refused, match="mac1"):
        other.open_initiation(pair.initiator().message)


def test_an_insider_cannot_speak_for_another(pair: Pair) -> None:
    """Mallory knows the mesh secret and puts Alice's public key where hers belongs."""
    mallory = Host()
    handshake = noise.Handshake(
        noise.pattern(exchange.PROTOCOL),
        True,
        exchange.PROLOGUE,
        static=mallory.private,
        remote_static=pair.bob.public,
        psks=(PSK,),
    )
    handshake._static = None  # all but `s` needs the private key; `s` is what she forges
    tokens = handshake._messages[0]
    message = b""
    while tokens[0] != "s":
        message += handshake._write_token(tokens.pop(0))
    message += handshake.symmetric.encrypt_and_hash(pair.alice.public)
    handshake.symmetric.mix_key(keys.x25519(mallory.private, pair.bob.public))
    payload = messages.initiation_payload(TIMESTAMP, 1, keys.public_key(mallory.private))
    message += handshake.symmetric.encrypt_and_hash(payload)
    key = keys.mac1_key(PSK, pair.bob.public)
    with pytest.raises(Refused, match="authenticate"):
        pair.responder.open_initiation(messages.initiation(pair.layout, 1, message, key))


@pytest.mark.parametrize("chosen", [0, 1, 2, 3])
def test_mac1_selects_among_several_credentials(layout: Layout, chosen: int) -> None:
    """An identity and a mesh secret, both in the middle of a rotation."""
    alice, old, new = Host(), Host(), Host()
    credentials = [Credential(host.private, psk) for host in (old, new) for psk in (PSK, b"2" * 32)]
    responder = Responder(layout, credentials, {alice.public}.__contains__)
    credential = credentials[chosen]
    initiator = Initiator(layout, alice.private, credential.public, credential.psk, 1, TIMESTAMP)
    assert responder.check_mac1(initiator.message) == credential
    opened = responder.open_initiation(initiator.message)
    response, theirs = responder.respond(opened, 2)
    ours = initiator.consume(response)
    assert opposite(ours, theirs)
    assert theirs.own_identity == credential.public


def test_only_initiations_are_opened(pair: Pair) -> None:
    initiator = pair.initiator()
    response, _ = pair.responder.respond(pair.responder.open_initiation(initiator.message), 5)
    assert pair.responder.classify(response) == messages.RESPONSE
    for call in (pair.responder.check_mac1, pair.responder.open_initiation):
        with pytest.raises(messages.MalformedMessage, match="instead of"):
            call(response)
    with pytest.raises(messages.MalformedMessage):
        pair.responder.classify(b"")


# Keys that must be refused although authentic


def test_an_association_key_of_low_order_is_refused(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a roster member that departs from the protocol."""
    with monkeypatch.context() as patch:
        patch.setattr(
            messages,
            "initiation_payload",
            lambda timestamp, sender, _public: timestamp + sender.to_bytes(4, "little") + bytes(32),
        )
        message = pair.initiator().message
    opened = pair.responder.open_initiation(message)
    with pytest.raises(Refused, match="low order"):
        pair.responder.respond(opened, 5)


def test_our_own_association_key_is_refused(pair: Pair) -> None:
    made = ExchangeKeys()
    initiator = pair.initiator(made)
    opened = pair.responder.open_initiation(initiator.message)
    with pytest.raises(Refused, match="our own"):
        pair.responder.respond(opened, 5, exchange_keys=ExchangeKeys(association=made.association))


def test_a_kem_key_that_is_not_canonical_is_refused(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = b"\xff" * 1184
    with monkeypatch.context() as patch:
        patch.setattr(noise, "kem_public", lambda _private: bad)
        message = pair.initiator().message
    opened = pair.responder.open_initiation(message)
    with pytest.raises(Refused, match="not canonical"):
        pair.responder.respond(opened, 5)


# Secrets stay inside


def test_no_repr_shows_a_secret(pair: Pair) -> None:
    made = ExchangeKeys(kem=MLKEM768PrivateKey.generate())
    initiator = pair.initiator(made)
    opened = pair.responder.open_initiation(initiator.message)
    response, theirs = pair.responder.respond(opened, 5)
    ours = initiator.consume(response)
    shown = "".join(map(repr, (made, opened, theirs, ours, opened.credential, initiator)))
    secrets = [
        pair.alice.private,
        pair.bob.private,
        PSK,
        made.ephemeral,
        made.association,
        ours.secret,
        ours.send_header_key,
        ours.receive_header_key,
        ours.own_private,
        theirs.own_private,
        ours.send.key,
        ours.send.nonce,
        ours.receive.key,
        opened.credential.mac1_key,
    ]
    for secret in secrets:
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
