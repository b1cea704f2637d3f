# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes tests/vectors/brine/*.json: an example of every formula of brine/1.

Independent of the package: no import of it, sizes and order written out from
docs/protocol.md once more, primitives from hashlib, libsodium and cryptography. All inputs
derive from labels; what ML-KEM's encapsulation drew is kept from the file that is there,
so that a second run writes the same bytes.

``python tests/vectors/generate.py`` writes; ``--check`` only compares, exit code 1.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import hmac
import importlib
import ipaddress
import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl import bindings

HERE = Path(__file__).resolve().parent / "brine"
# libsodium itself, as PyNaCl brings it: HSalsa20 it does not bind.
SODIUM = ctypes.CDLL(importlib.import_module("nacl._sodium").__file__)
NAME = b"Noise_IKpsk0+hfs_25519+MLKEM768_ChaChaPoly_BLAKE2b"
Json = dict[str, Any]


def drawn(label: str, size: int = 32) -> bytes:
    return hashlib.shake_256(b"brine test vector: " + label.encode()).digest(size)


def blake2b(bits: int, *parts: bytes, key: bytes = b"") -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=bits // 8, key=key).digest()


def hsalsa20(key: bytes, block: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    SODIUM.crypto_core_hsalsa20(out, block, key, None)
    return out.raw


def base(private: bytes) -> bytes:
    return bindings.crypto_scalarmult_base(private)


def shown(value: Any) -> Any:
    """Bytes as hex, down the whole structure."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    return value


# Keys, macs, boxes


def identities() -> list[Json]:
    made = []
    for label in ("alice", "bob"):
        private = drawn(f"identity {label}")
        public = base(private)
        tail = blake2b(80, public, key=b"brine/1 address")
        address = ipaddress.IPv6Address(bytes.fromhex("fd6272696e65") + tail)
        made.append(
            {
                "private": private,
                "public": public,
                "key_id": blake2b(64, public).hex(),
                "overlay_address": str(address),
            }
        )
    return made


def agreements() -> list[Json]:
    one, other = drawn("agreement one"), drawn("agreement other")
    dh = bindings.crypto_box_beforenm(base(other), one)
    return [
        {"private": one, "public": base(other), "dh": dh},
        {"private": other, "public": base(one), "dh": dh},
    ]


def box(secret: bytes, sgen: int, rgen: int, dh: bytes, sender: bytes, receiver: bytes) -> bytes:
    return blake2b(384, b"brine/1 box", bytes((sgen, rgen)), dh, sender, receiver, key=secret)


def boxes() -> list[Json]:
    made = []
    for sgen, rgen in ((0, 0), (1, 0), (0, 1), (239, 240)):
        label = f"box {sgen} {rgen}"
        secret, sender = drawn(f"{label} A"), drawn(f"{label} sender")
        receiver = base(drawn(f"{label} receiver"))
        dh = bindings.crypto_box_beforenm(receiver, sender)
        out = box(secret, sgen, rgen, dh, base(sender), receiver)
        made.append(
            {
                "secret": secret,
                "sender_generation": sgen,
                "receiver_generation": rgen,
                "dh": dh,
                "sender_public": base(sender),
                "receiver_public": receiver,
                "key": out[:32],
                "nonce": out[32:],
                "subkey": hsalsa20(out[:32], out[32:]),
            }
        )
    return made


def packet(
    kind: int, derived: Json, lane: int, counter: int, index: int, plain: bytes, announced: Json
) -> Json:
    """A DATA (4) or DATA_KEYED (5) packet under a box of `boxes`."""
    generations = derived["sender_generation"], derived["receiver_generation"]
    header = struct.pack("<BBBBIQ", kind, *generations, lane, index, counter)
    nonce = derived["nonce"] + struct.pack("<Q", lane * 2**56 + counter)
    sealed = bindings.crypto_secretbox_easy(plain, nonce, derived["key"])
    made: Json = {
        "box": generations,
        "lane": lane,
        "counter": counter,
        "receiver_index": index,
        "nonce": nonce,
        "plaintext": plain,
    }
    between = b""
    if kind == 5:
        tag = blake2b(64, header, announced["key"], key=announced["header_key"])
        made |= announced | {"header_tag": tag}
        between = announced["key"] + tag
    return made | {"packet": header + between + sealed}


def packets() -> Json:
    first, second = boxes()[:2]
    keyed = {"header_key": drawn("header key"), "key": second["sender_public"]}
    long = drawn("inner packet", 1420)
    return {
        "data": [
            packet(4, first, 0, 0, 1, b"", {}),
            packet(4, first, 3, 1, 0x01020304, long[:20], {}),
            packet(4, second, 15, 2**40 - 1, 0xFFFFFFFF, long, {}),
        ],
        "data_keyed": [
            packet(5, second, 0, 0, 0x01020304, b"", keyed),
            packet(5, second, 7, 0x0102030405, 2, long[:64], keyed),
        ],
    }


def associations() -> list[Json]:
    ck, h = drawn("chaining key", 64), drawn("handshake hash", 64)
    return [{"chaining_key": ck, "handshake_hash": h} | association(ck, h)]


def association(ck: bytes, h: bytes) -> Json:
    return {
        "secret": blake2b(256, b"brine/1 A", h, key=ck),
        "header_initiator": blake2b(256, b"brine/1 header i", h, key=ck),
        "header_responder": blake2b(256, b"brine/1 header r", h, key=ck),
    }


def macs() -> list[Json]:
    made = []
    for psk in (bytes(32), drawn("mesh secret")):
        receiver, data, rotating = base(drawn("mac receiver")), drawn("mac data", 100), drawn("R")
        key = blake2b(256, b"brine/1 mac1", psk, receiver)
        mac1 = blake2b(128, data, key=key)
        address, port = ipaddress.ip_address("::ffff:192.0.2.7").packed, 4747
        cookie = blake2b(128, address, struct.pack(">H", port), key=rotating)
        cookie_key = blake2b(256, b"brine/1 cookie", psk, receiver, mac1)
        nonce, index = drawn("cookie nonce", 24), 0x0A0B0C0D
        sealed = bindings.crypto_secretbox_easy(cookie, nonce, cookie_key)
        made.append(
            {
                "psk": psk,
                "receiver_public": receiver,
                "data": data,
                "mac1_key": key,
                "mac1": mac1,
                "rotating_secret": rotating,
                "address": address,
                "port": port,
                "cookie": cookie,
                "mac2": blake2b(128, data, mac1, key=cookie),
                "cookie_key": cookie_key,
                "receiver_index": index,
                "cookie_nonce": nonce,
                "cookie_message": struct.pack("<BBBBI", 3, 0, 0, 0, index) + nonce + sealed,
            }
        )
    return made


# A whole exchange


class Transcript:
    """ck, h and the key of Noise, step by step as the tokens come."""

    def __init__(self) -> None:
        self.h = self.ck = NAME.ljust(64, b"\0")
        self.key, self.n = b"", 0

    def hash(self, data: bytes) -> None:
        self.h = hashlib.blake2b(self.h + data).digest()

    def hkdf(self, material: bytes, count: int) -> list[bytes]:
        temporary = hmac.new(self.ck, material, hashlib.blake2b).digest()
        out = [b""]
        for number in range(count):
            block = out[-1] + bytes([number + 1])
            out.append(hmac.new(temporary, block, hashlib.blake2b).digest())
        return out[1:]

    def mix(self, material: bytes) -> None:
        self.ck, key = self.hkdf(material, 2)
        self.key, self.n = key[:32], 0

    def psk(self, psk: bytes) -> None:
        self.ck, middle, key = self.hkdf(psk, 3)
        self.hash(middle)
        self.key, self.n = key[:32], 0

    def e(self, public: bytes) -> bytes:
        self.hash(public)
        self.mix(public)
        return public

    def seal(self, plain: bytes) -> bytes:
        nonce = bytes(4) + struct.pack("<Q", self.n)
        out = ChaCha20Poly1305(self.key).encrypt(nonce, plain, self.h)
        self.n += 1
        self.hash(out)
        return out


def exchange(label: str, psk: bytes, cookie: bytes, before: Json | None) -> Json:
    def key(name: str) -> bytes:
        return drawn(f"{label} {name}")

    def dh(private: str, public: str) -> bytes:
        return bindings.crypto_scalarmult(key(private), base(key(public)))

    seed = drawn(f"{label} kem", 64)
    kem = MLKEM768PrivateKey.from_seed_bytes(seed)
    sender, receiver = 0x01020304, 0xFEDCBA98
    timestamp = struct.pack(">QI", 2**62 + 10 + 1_700_000_000, 123_456_789)

    t = Transcript()
    t.hash(b"brine/1")
    t.hash(base(key("responder")))
    t.psk(psk)
    noise = t.e(base(key("initiator ephemeral")))
    t.mix(dh("initiator ephemeral", "responder"))
    noise += t.seal(kem.public_key().public_bytes_raw())
    noise += t.seal(base(key("initiator")))
    t.mix(dh("initiator", "responder"))
    first = base(key("initiator association"))
    noise += t.seal(timestamp + struct.pack("<I", sender) + first)
    initiation = struct.pack("<BBBBI", 1, 0, 0, 0, sender) + noise
    mac1_key = blake2b(256, b"brine/1 mac1", psk, base(key("responder")))
    initiation += blake2b(128, initiation, key=mac1_key)
    initiation += blake2b(128, initiation, key=cookie) if cookie else bytes(16)

    if before:
        ciphertext, kem_secret = (
            bytes.fromhex(before[name]) for name in ("kem_ciphertext", "kem_secret")
        )
    else:
        kem_secret, ciphertext = kem.public_key().encapsulate()
    if kem.decapsulate(ciphertext) != kem_secret:
        raise ValueError(f"{label}: the recorded encapsulation is not for this key")
    second = base(key("responder association"))
    noise = t.e(base(key("responder ephemeral")))
    t.mix(dh("responder ephemeral", "initiator ephemeral"))
    noise += t.seal(ciphertext)
    t.mix(kem_secret)
    t.mix(dh("responder ephemeral", "initiator"))
    noise += t.seal(struct.pack("<I", receiver) + second)
    response = struct.pack("<BBBBII", 2, 0, 0, 0, receiver, sender) + noise
    mac1_key = blake2b(256, b"brine/1 mac1", psk, base(key("initiator")))
    response += blake2b(128, response, key=mac1_key) + bytes(16)

    made = association(t.ck, t.h)
    shared = bindings.crypto_box_beforenm(second, key("initiator association"))
    forth = box(made["secret"], 0, 0, shared, first, second)
    back = box(made["secret"], 0, 0, shared, second, first)
    return {
        "psk": psk,
        "initiator_private": key("initiator"),
        "responder_private": key("responder"),
        "initiator_ephemeral": key("initiator ephemeral"),
        "responder_ephemeral": key("responder ephemeral"),
        "initiator_association": key("initiator association"),
        "responder_association": key("responder association"),
        "kem_seed": seed,
        "kem_ciphertext": ciphertext,
        "kem_secret": kem_secret,
        "initiator_index": sender,
        "responder_index": receiver,
        "timestamp": timestamp,
        "cookie": cookie,
        "initiation": initiation,
        "response": response,
        "chaining_key": t.ck,
        "handshake_hash": t.h,
        **made,
        "initiator_box": {"key": forth[:32], "nonce": forth[32:]},
        "responder_box": {"key": back[:32], "nonce": back[32:]},
    }


def exchanges() -> list[Json]:
    path = HERE / "exchange.json"
    recorded = json.loads(path.read_text()) if path.exists() else []
    cases = [
        ("exchange one", drawn("exchange mesh secret"), b""),
        ("exchange two", bytes(32), b""),
        ("exchange three", drawn("exchange mesh secret"), drawn("exchange cookie", 16)),
    ]
    return [
        exchange(*case, recorded[number] if number < len(recorded) else None)
        for number, case in enumerate(cases)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    files = {
        "identity": identities,
        "agreement": agreements,
        "box": boxes,
        "packet": packets,
        "association": associations,
        "mac": macs,
        "exchange": exchanges,
    }
    differ = []
    for name, make in files.items():
        path = HERE / f"{name}.json"
        text = json.dumps(shown(make()), indent=1) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            differ.append(path.name)
        elif not check:
            path.write_text(text)
    for one in differ:
        print(f"{one} differs from what generate.py makes", file=sys.stderr)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
