# SPDX-License-Identifier: GPL-3.0-or-later
"""The derivation in the loaded object against the published vectors of brine/1 and against
hashlib and libsodium, which share no line with it."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import itertools
import struct
from typing import Any

import pytest
from nacl import bindings

from tests import vectors
from tests.bpf.loaded import Loaded
from tests.bpf.primitives import area, derive, header_tag

SODIUM = ctypes.CDLL(importlib.import_module("nacl._sodium").__file__)
DONE, LOW_ORDER, OWN_KEY = 0, 1, 2


def drawn(label: str, size: int = 32) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)


def hsalsa20(key: bytes, block: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    assert SODIUM.crypto_core_hsalsa20(out, block, key, None) == 0
    return out.raw


def generations(sender: int, receiver: int) -> int:
    return sender | receiver << 8


def keys(number: int = 0) -> dict[str, bytes]:
    own, peer = drawn(f"own {number}"), drawn(f"peer {number}")
    return {
        "own_private": own,
        "own_public": bindings.crypto_scalarmult_base(own),
        "peer_public": bindings.crypto_scalarmult_base(peer),
        "secret": drawn(f"secret {number}"),
    }


def expected_box(  # one argument for each part of the formula
    secret: bytes, sgen: int, rgen: int, dh: bytes, sender: bytes, receiver: bytes
) -> bytes:
    text = b"brine/1 box" + struct.pack("BB", sgen, rgen) + dh + sender + receiver
    return hashlib.blake2b(text, digest_size=48, key=secret).digest()


@pytest.mark.parametrize("case", vectors.load("brine/agreement.json"))
def test_published_agreements(loaded: Loaded, case: dict[str, str]) -> None:
    private = bytes.fromhex(case["private"])
    given = keys() | {
        "own_private": private,
        "own_public": bindings.crypto_scalarmult_base(private),
        "peer_public": bytes.fromhex(case["public"]),
    }
    done = derive(loaded, **given)
    assert (done.result, bytes(done.dh).hex()) == (DONE, case["dh"])


@pytest.mark.parametrize("sending", [0, 1])
@pytest.mark.parametrize("case", vectors.load("brine/box.json"))
def test_published_boxes(loaded: Loaded, case: dict[str, Any], sending: int) -> None:
    sender, receiver = (bytes.fromhex(case[f"{side}_public"]) for side in ("sender", "receiver"))
    done = derive(
        loaded,
        secret=bytes.fromhex(case["secret"]),
        dh=bytes.fromhex(case["dh"]),
        dh_given=1,
        own_public=sender if sending else receiver,
        peer_public=receiver if sending else sender,
        sending=sending,
        generations=generations(case["sender_generation"], case["receiver_generation"]),
    )
    assert done.result == DONE
    assert bytes(done.box).hex() == case["key"] + case["nonce"]
    assert bytes(done.subkey).hex() == case["subkey"]


def test_boxes_from_keys(loaded: Loaded) -> None:
    """Both ends' view of drawn keys, all generations' corners."""
    for number, (sgen, rgen) in enumerate(
        itertools.product((0, 1, 2, 127, 128, 254, 255), repeat=2)
    ):
        given = keys(number)
        peer = drawn(f"peer {number}")
        dh = bindings.crypto_box_beforenm(given["peer_public"], given["own_private"])
        box = expected_box(
            given["secret"], sgen, rgen, dh, given["own_public"], given["peer_public"]
        )
        sender = derive(loaded, **given, sending=1, generations=generations(sgen, rgen))
        receiver = derive(
            loaded,
            own_private=peer,
            own_public=given["peer_public"],
            peer_public=given["own_public"],
            secret=given["secret"],
            sending=0,
            generations=generations(sgen, rgen),
        )
        for done in (sender, receiver):
            assert done.result == DONE
            assert bytes(done.dh) == dh
            assert bytes(done.box) == box
            assert bytes(done.subkey) == hsalsa20(box[:32], box[32:])


def test_the_subkey_makes_the_secretbox_stream(loaded: Loaded) -> None:
    """The sub-key is that of NaCl's secretbox under K and the nonce N ‖ counter."""
    done = derive(loaded, **keys(), sending=1, generations=0)
    key, nonce = bytes(done.box)[:32], bytes(done.box)[32:] + struct.pack("<Q", 7)
    stream = bindings.crypto_secretbox(bytes(64), nonce, key)[16:]
    direct = ctypes.create_string_buffer(96)
    assert (
        SODIUM.crypto_stream_salsa20(direct, ctypes.c_ulonglong(96), nonce[16:], bytes(done.subkey))
        == 0
    )
    assert direct.raw[32:] == stream


def test_every_part_counts(loaded: Loaded) -> None:
    """Change one part of the formula, and the box changes."""
    base = keys() | {"sending": 1, "generations": generations(3, 4)}
    changed: list[dict[str, Any]] = [
        base,
        base | {"secret": drawn("another")},
        base | {"sending": 0},
        base | {"generations": generations(4, 3)},
        base | {"generations": generations(3, 5)},
        base | {"peer_public": keys(1)["peer_public"]},
        base | {"own_public": keys(1)["own_public"]},
    ]
    boxes = {bytes(derive(loaded, **given).box) for given in changed}
    assert len(boxes) == len(changed)


@pytest.mark.parametrize("u", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
def test_low_order_keys_are_refused(loaded: Loaded, u: int) -> None:
    done = derive(loaded, **keys() | {"peer_public": u.to_bytes(32, "little")})
    assert done.result == LOW_ORDER
    assert not any(bytes(done.subkey))


def test_our_own_key_is_refused(loaded: Loaded) -> None:
    given = keys()
    done = derive(loaded, **given | {"peer_public": given["own_public"]})
    assert done.result == OWN_KEY
    assert not any(bytes(done.subkey))


@pytest.mark.parametrize("byte", range(32))
def test_a_key_almost_our_own_is_not(loaded: Loaded, byte: int) -> None:
    given = keys()
    almost = bytearray(given["own_public"])
    almost[byte] ^= 1
    assert derive(loaded, **given | {"peer_public": bytes(almost)}).result == DONE


def test_header_tags(loaded: Loaded) -> None:
    for number in range(50):
        header_key, header, key = drawn(f"a{number}"), drawn(f"b{number}", 16), drawn(f"c{number}")
        expected = hashlib.blake2b(header + key, digest_size=8, key=header_key).digest()
        assert header_tag(loaded, header_key, header, key) == expected


def test_the_area_is_overwritten(loaded: Loaded) -> None:
    """derive_wipe leaves nothing, header_tag only the tag and what is in the packet."""
    derive(loaded, **keys(), sending=1, generations=0)
    assert not any(bytes(area(loaded).derive))
    header_tag(loaded, drawn("a"), drawn("b", 16), drawn("c"))
    assert not any(bytes(area(loaded).header_tag.blake2b))
