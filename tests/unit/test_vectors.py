# SPDX-License-Identifier: GPL-3.0-or-later
"""The published vectors of brine/1 (tests/vectors/brine): the library agrees with each."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from typing import Any

import nacl.secret
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from brine import exchange, keys, messages, noise
from brine.layout import Layout
from tests import vectors

Case = dict[str, Any]


def _load(name: str) -> Any:
    def read(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                inner: text if inner in {"key_id", "overlay_address"} else read(text)
                for inner, text in value.items()
            }
        if isinstance(value, list):
            return [read(inner) for inner in value]
        return bytes.fromhex(value) if isinstance(value, str) else value

    return read(vectors.load(f"brine/{name}.json"))


def test_the_files_are_what_the_generator_makes() -> None:
    script = vectors.HERE / "generate.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_generator_does_not_use_the_package() -> None:
    text = (vectors.HERE / "generate.py").read_text()
    assert "import brine" not in text
    assert "from brine" not in text


@pytest.mark.parametrize("case", _load("identity"))
def test_identity(case: Case) -> None:
    assert keys.public_key(case["private"]) == case["public"]
    assert keys.key_id(case["public"]) == case["key_id"]
    assert keys.overlay_address(case["public"]) == ipaddress.ip_address(case["overlay_address"])


@pytest.mark.parametrize("case", _load("agreement"))
def test_agreement(case: Case) -> None:
    assert keys.beforenm(case["private"], case["public"]) == case["dh"]


@pytest.mark.parametrize("case", _load("box"))
def test_box(case: Case) -> None:
    box = keys.derive_box(
        case["secret"],
        case["sender_generation"],
        case["receiver_generation"],
        case["dh"],
        case["sender_public"],
        case["receiver_public"],
    )
    assert (box.key, box.nonce) == (case["key"], case["nonce"])
    assert keys.subkey(box) == case["subkey"]


@pytest.mark.parametrize("case", _load("packet")["data"] + _load("packet")["data_keyed"])
def test_packet(layout: Layout, case: Case) -> None:
    (box,) = (
        keys.Box(one["key"], one["nonce"])
        for one in _load("box")
        if [one["sender_generation"], one["receiver_generation"]] == case["box"]
    )
    nonce = keys.box_nonce(box.nonce, case["lane"], case["counter"])
    assert nonce == case["nonce"]
    keyed = "header_tag" in case
    shape = layout.message_data_keyed if keyed else layout.message_data
    header = shape.from_buffer_copy(case["packet"])
    kinds = layout.enum("message_type")
    assert header.type == kinds["MESSAGE_DATA_KEYED" if keyed else "MESSAGE_DATA"]
    assert [header.sender_generation, header.receiver_generation] == case["box"]
    assert (header.lane, header.counter) == (case["lane"], case["counter"])
    assert header.receiver == case["receiver_index"]
    sealed = case["packet"][shape.tag.offset :]
    assert nacl.secret.SecretBox(box.key).decrypt(sealed, nonce) == case["plaintext"]
    if keyed:
        tag = keys.header_tag(case["header_key"], case["packet"][:16], case["key"])
        assert tag == case["header_tag"] == bytes(header.header_tag)
        assert bytes(header.key) == case["key"]


@pytest.mark.parametrize("case", _load("association"))
def test_association(case: Case) -> None:
    made = keys.association_keys(case["chaining_key"], case["handshake_hash"])
    assert made.secret == case["secret"]
    assert made.header_initiator == case["header_initiator"]
    assert made.header_responder == case["header_responder"]


@pytest.mark.parametrize("case", _load("mac"))
def test_mac_and_cookie(layout: Layout, case: Case) -> None:
    assert keys.mac1_key(case["psk"], case["receiver_public"]) == case["mac1_key"]
    assert keys.mac(case["mac1_key"], case["data"]) == case["mac1"]
    cookie = keys.cookie(case["rotating_secret"], case["address"], case["port"])
    assert cookie == case["cookie"]
    assert keys.mac(cookie, case["data"] + case["mac1"]) == case["mac2"]
    key = keys.cookie_key(case["psk"], case["receiver_public"], case["mac1"])
    assert key == case["cookie_key"]
    opened = messages.open_cookie(layout, case["cookie_message"], case["receiver_index"], key)
    assert opened == cookie


@pytest.fixture(params=_load("exchange"), ids=["secret", "no-secret", "cookie"])
def recorded(request: pytest.FixtureRequest) -> Any:
    return request.param


def _initiator(layout: Layout, case: Case) -> exchange.Initiator:
    return exchange.Initiator(
        layout,
        case["initiator_private"],
        keys.public_key(case["responder_private"]),
        case["psk"],
        case["initiator_index"],
        case["timestamp"],
        case["cookie"] or None,
        exchange_keys=exchange.ExchangeKeys(
            case["initiator_ephemeral"],
            case["initiator_association"],
            MLKEM768PrivateKey.from_seed_bytes(case["kem_seed"]),
        ),
    )


def _check(established: exchange.Established, case: Case) -> None:
    own, peer = "initiator", "responder"
    if not established.initiated:
        own, peer = peer, own
    assert established.secret == case["secret"]
    assert established.send_header_key == case[f"header_{own}"]
    assert established.receive_header_key == case[f"header_{peer}"]
    assert established.send == keys.Box(**case[f"{own}_box"])
    assert established.receive == keys.Box(**case[f"{peer}_box"])
    assert established.local_index == case[f"{own}_index"]
    assert established.remote_index == case[f"{peer}_index"]
    assert established.own_private == case[f"{own}_association"]
    assert established.peer_public == keys.public_key(case[f"{peer}_association"])
    assert established.own_identity == keys.public_key(case[f"{own}_private"])
    assert established.peer_identity == keys.public_key(case[f"{peer}_private"])


def test_the_initiators_side_of_an_exchange(layout: Layout, recorded: Case) -> None:
    initiator = _initiator(layout, recorded)
    assert initiator.message == recorded["initiation"]
    _check(initiator.consume(recorded["response"]), recorded)


def test_the_responders_side_of_an_exchange(
    layout: Layout, recorded: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = keys.public_key(recorded["initiator_private"])
    responder = exchange.Responder(
        layout,
        [exchange.Credential(recorded["responder_private"], recorded["psk"])],
        lambda asked: asked == identity,
    )
    opened = responder.open_initiation(recorded["initiation"])
    assert opened.identity == identity
    assert opened.timestamp == recorded["timestamp"]
    if recorded["cookie"]:
        assert responder.check_mac2(recorded["initiation"], recorded["cookie"])

    # The one random draw that cryptography does not let one fix.
    def encapsulate(public: bytes) -> tuple[bytes, bytes]:
        kem = MLKEM768PrivateKey.from_seed_bytes(recorded["kem_seed"])
        assert public == noise.kem_public(kem)
        return recorded["kem_ciphertext"], recorded["kem_secret"]

    monkeypatch.setattr(noise, "kem_encapsulate", encapsulate)
    response, established = responder.respond(
        opened,
        recorded["responder_index"],
        exchange_keys=exchange.ExchangeKeys(
            recorded["responder_ephemeral"], recorded["responder_association"]
        ),
    )
    assert response == recorded["response"]
    _check(established, recorded)
