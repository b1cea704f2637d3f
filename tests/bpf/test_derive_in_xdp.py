# SPDX-License-Identifier: GPL-3.0-or-later
"""The derivation inside an XDP program, where reception will call it."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import struct
from collections.abc import Iterator

import pytest
from nacl import bindings

from brine.libbpf import Object
from tests.bpf.loaded import build

SODIUM = ctypes.CDLL(importlib.import_module("nacl._sodium").__file__)
XDP_DROP, XDP_PASS = 1, 2
ANSWER = 8 + 48 + 32  # header tag, K ‖ N, sub-key
OWN, PEER, SECRET, HEADER_KEY = (
    hashlib.sha256(label).digest() for label in (b"own", b"peer", b"secret", b"header key")
)
OWN_PUBLIC, PEER_PUBLIC = map(bindings.crypto_scalarmult_base, (OWN, PEER))


@pytest.fixture(scope="module")
def xdp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Object]:
    source = "../tests/bpf/derive_in_xdp.bpf.c"
    made = Object(str(build(tmp_path_factory.mktemp("xdp"), source)))
    made.load()
    made.map("held").update(bytes(4), OWN + OWN_PUBLIC + SECRET + HEADER_KEY)
    yield made
    made.close()


def receive(xdp: Object, header: bytes, key: bytes) -> tuple[int, bytes]:
    """The verdict, and what was written behind header and key."""
    run = xdp.program("derive_in_xdp").run(data=header + key + bytes(ANSWER))
    return run.value, run.data[len(header) + len(key) :]


def test_a_keyed_packet_makes_its_box(xdp: Object) -> None:
    header = struct.pack("<BBBBIQ", 5, 7, 6, 0, 0x12345678, 0)
    verdict, answer = receive(xdp, header, PEER_PUBLIC)
    assert verdict == XDP_PASS
    tag = hashlib.blake2b(header + PEER_PUBLIC, digest_size=8, key=HEADER_KEY).digest()
    dh = bindings.crypto_box_beforenm(OWN_PUBLIC, PEER)  # as the sender computes it
    text = b"brine/1 box" + bytes([7, 6]) + dh + PEER_PUBLIC + OWN_PUBLIC
    box = hashlib.blake2b(text, digest_size=48, key=SECRET).digest()
    subkey = ctypes.create_string_buffer(32)
    SODIUM.crypto_core_hsalsa20(subkey, box[32:], box[:32], None)
    assert answer == tag + box + subkey.raw


@pytest.mark.parametrize("key", [bytes(32), OWN_PUBLIC], ids=["low order", "our own"])
def test_bad_keys_are_dropped(xdp: Object, key: bytes) -> None:
    verdict, _answer = receive(xdp, bytes(16), key)
    assert verdict == XDP_DROP


def test_nothing_stays_in_the_area(xdp: Object) -> None:
    receive(xdp, bytes(16), PEER_PUBLIC)
    left = xdp.map("areas").lookup(bytes(4)) or b"?"
    derive, each = (ctypes.sizeof(xdp.btf.struct(n)) for n in ("derive", "derive_in_xdp_area"))
    assert len(left) % each == 0
    for at in range(0, len(left), each):
        assert not any(left[at : at + derive])
