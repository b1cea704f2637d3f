# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise, revision 34, with the psk and hfs modifiers: DH 25519, KEM ML-KEM-768, ChaChaPoly,
BLAKE2b. (SHA256 too: the published vectors of hfs with ML-KEM use it.)

Sources: noiseprotocol.org/noise.html, names as there; the HFS extension (noise_hfs_spec);
FIPS 203. A message's tokens can be read a few at a time, so that a responder learns who
sends before it spends more, and a message that turns out forged costs the caller no state:
copy a handshake before reading into it.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from brine.keys import KEY_BYTES, LowOrderPoint, generate_private, public_key, x25519

TAG_BYTES = 16
KEM_KEY_BYTES = 1184
KEM_CIPHERTEXT_BYTES = 1088

_DHS = ("25519", "25519+MLKEM768")
_HASHES = {"BLAKE2b": "blake2b", "SHA256": "sha256"}  # names of hashlib
# Section 7 of the specification: what is known before of initiator and responder; messages.
_PATTERNS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "N": ("", "s", ("e es",)),
    "K": ("s", "s", ("e es ss",)),
    "X": ("", "s", ("e es s ss",)),
    "NN": ("", "", ("e", "e ee")),
    "NK": ("", "s", ("e es", "e ee")),
    "NX": ("", "", ("e", "e ee s es")),
    "XN": ("", "", ("e", "e ee", "s se")),
    "XK": ("", "s", ("e es", "e ee", "s se")),
    "XX": ("", "", ("e", "e ee s es", "s se")),
    "KN": ("s", "", ("e", "e ee se")),
    "KK": ("s", "s", ("e es ss", "e ee se")),
    "KX": ("s", "", ("e", "e ee se s es")),
    "IN": ("", "", ("e s", "e ee se")),
    "IK": ("", "s", ("e es s ss", "e ee se")),
    "IX": ("", "", ("e s", "e ee se s es")),
}


class NoiseError(ValueError):
    """A message that does not authenticate, or carries a key that must be refused."""


@dataclass(frozen=True)
class Pattern:
    """A handshake pattern with its modifiers applied."""

    name: str  #: the whole protocol name
    hash: str  #: its name in hashlib
    psk: bool  #: `e` goes into the key too
    initiator_known: str  #: "s" if the responder knows the initiator's key before
    responder_known: str
    messages: tuple[tuple[str, ...], ...]  #: tokens


def pattern(name: str) -> Pattern:
    """The pattern of a protocol name such as ``Noise_IKpsk0+hfs_25519+MLKEM768_…``.

    :raises ValueError: if the name is of another suite, or knows other modifiers.
    """
    parts = name.split("_")
    if len(parts) != 5 or parts[0] != "Noise" or parts[3] != "ChaChaPoly":
        raise ValueError(f"{name} is not supported")
    _noise, handshake, dh, _cipher, hash_name = parts
    base = handshake[: len(handshake) - len(handshake.lstrip("NKXI"))]
    modifiers = [one for one in handshake[len(base) :].split("+") if one]
    if base not in _PATTERNS or dh not in _DHS or hash_name not in _HASHES:
        raise ValueError(f"{name} is not supported")
    initiator_known, responder_known, text = _PATTERNS[base]
    messages = [line.split() for line in text]
    for modifier in modifiers:
        if modifier == "hfs":
            _add_hfs(messages)
        elif modifier.startswith("psk") and modifier[3:].isdecimal():
            _add_psk(messages, int(modifier[3:]))
        else:
            raise ValueError(f"the modifier {modifier} is not supported")
    if ("hfs" in modifiers) != ("+" in dh):
        raise ValueError(f"{name} names a KEM and does not use it, or the other way round")
    return Pattern(
        name,
        _HASHES[hash_name],
        any("psk" in line for line in messages),
        initiator_known,
        responder_known,
        tuple(map(tuple, messages)),
    )


def _add_psk(messages: list[list[str]], place: int) -> None:
    """psk0 begins the first message, psk1 ends it, psk2 ends the second, and so on."""
    if place > len(messages):
        raise ValueError(f"psk{place}: there are {len(messages)} messages")
    if place:
        messages[place - 1].append("psk")
    else:
        messages[0].insert(0, "psk")


def _add_hfs(messages: list[list[str]]) -> None:
    """`e1` follows the first `e`, or the DH right after it; `ekem1` follows the first `ee`."""
    first = messages[0]
    at = first.index("e") + 1
    first.insert(at + (first[at : at + 1] in (["es"], ["se"])), "e1")
    for line in messages:
        if "ee" in line:
            line.insert(line.index("ee") + 1, "ekem1")
            return
    raise ValueError("hfs needs an ee")


@dataclass
class CipherState:
    """ChaChaPoly with a counter. Without a key, data passes as it is."""

    key: bytes | None = field(default=None, repr=False)
    nonce: int = 0

    def encrypt(self, associated: bytes, plaintext: bytes) -> bytes:
        """The ciphertext with its tag, or the plaintext while there is no key."""
        if self.key is None:
            return plaintext
        sealed = ChaCha20Poly1305(self.key).encrypt(self._bytes(), plaintext, associated)
        self.nonce += 1
        return sealed

    def decrypt(self, associated: bytes, sealed: bytes) -> bytes:
        """:raises NoiseError: if it does not authenticate."""
        if self.key is None:
            return sealed
        try:
            opened = ChaCha20Poly1305(self.key).decrypt(self._bytes(), sealed, associated)
        except InvalidTag:
            raise NoiseError("it does not authenticate") from None
        self.nonce += 1
        return opened

    def _bytes(self) -> bytes:
        if self.nonce >= (1 << 64) - 1:
            raise NoiseError("the key is used up")
        return bytes(4) + self.nonce.to_bytes(8, "little")


class SymmetricState:
    """The chaining key and the hash of all that both sides have seen: 64 bytes each."""

    def __init__(self, name: str, algorithm: str) -> None:
        self._algorithm = algorithm
        encoded = name.encode()
        size = hashlib.new(algorithm).digest_size
        self.hash = encoded.ljust(size, b"\0") if len(encoded) <= size else self._hashed(encoded)
        self.chaining_key = self.hash
        self.cipher = CipherState()

    def _hashed(self, data: bytes) -> bytes:
        return hashlib.new(self._algorithm, data).digest()

    def _hkdf(self, material: bytes, outputs: int) -> list[bytes]:
        """HKDF of the specification, section 4.3."""
        temporary = hmac.digest(self.chaining_key, material, self._algorithm)
        made: list[bytes] = []
        for number in range(1, outputs + 1):
            before = made[-1] if made else b""
            made.append(hmac.digest(temporary, before + bytes((number,)), self._algorithm))
        return made

    def mix_hash(self, data: bytes) -> None:
        self.hash = self._hashed(self.hash + data)

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, key = self._hkdf(material, 2)
        self.cipher = CipherState(key[:KEY_BYTES])

    def mix_key_and_hash(self, material: bytes) -> None:
        self.chaining_key, data, key = self._hkdf(material, 3)
        self.mix_hash(data)
        self.cipher = CipherState(key[:KEY_BYTES])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = self.cipher.encrypt(self.hash, plaintext)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        opened = self.cipher.decrypt(self.hash, sealed)
        self.mix_hash(sealed)
        return opened

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers of the initiator and of the responder. brine/1 does not use them."""
        first, second = self._hkdf(b"", 2)
        return CipherState(first[:KEY_BYTES]), CipherState(second[:KEY_BYTES])


def kem_public(private: MLKEM768PrivateKey) -> bytes:
    """Give the encapsulation key: 1184 bytes."""
    return private.public_key().public_bytes_raw()


def kem_encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """The ciphertext (1088 bytes) and the secret (32) for a key that was received.

    :raises NoiseError: if the key fails the check of FIPS 203, section 7.2.
    """
    try:
        secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise NoiseError("the ML-KEM key is not canonical") from None
    return ciphertext, secret


class Handshake:
    """One side of a handshake: HandshakeState of the specification.

    :meth:`write` our messages; :meth:`read` the peer's, or in steps :meth:`read_tokens`
    and :meth:`read_payload`. After a NoiseError the instance is spent: :meth:`fork` before.

    `static`, `ephemeral`, `kem`: our private keys; the latter two are made when needed.
    `remote_static`: the peer's public key, where the pattern says that it is known.
    """

    def __init__(
        self,
        protocol: Pattern,
        initiator: bool,
        prologue: bytes,
        *,
        static: bytes | None = None,
        remote_static: bytes | None = None,
        psks: tuple[bytes, ...] = (),
        ephemeral: bytes | None = None,
        kem: MLKEM768PrivateKey | None = None,
    ) -> None:
        self.initiator = initiator
        self.symmetric = SymmetricState(protocol.name, protocol.hash)
        self.remote_static = remote_static
        self.remote_ephemeral: bytes | None = None
        self._psk_mode = protocol.psk
        self._psks = list(psks)
        self._static, self._ephemeral, self._kem = static, ephemeral, kem
        self._remote_kem: bytes | None = None
        self._messages = [list(message) for message in protocol.messages]
        self._writes = initiator  #: whether the message at hand is ours
        self.symmetric.mix_hash(prologue)
        for known, ours in (
            (protocol.initiator_known, initiator),
            (protocol.responder_known, not initiator),
        ):
            if known:
                key = public_key(_have(static)) if ours else _have(remote_static)
                self.symmetric.mix_hash(key)

    def fork(self, ephemeral: bytes | None = None) -> Handshake:
        """A copy that shares nothing that changes, with this ephemeral key if given."""
        other = copy.copy(self)
        other._ephemeral = ephemeral or self._ephemeral
        other.symmetric = copy.copy(self.symmetric)
        other.symmetric.cipher = copy.copy(self.symmetric.cipher)
        other._psks = list(self._psks)
        other._messages = [list(message) for message in self._messages]
        return other

    @property
    def complete(self) -> bool:
        """Whether all messages have passed."""
        return not self._messages

    def write(self, payload: bytes) -> bytes:
        """The next message, ours."""
        tokens = self._turn(writes=True)
        out = b""
        while tokens:
            out += self._write_token(tokens.pop(0))
        out += self.symmetric.encrypt_and_hash(payload)
        self._end()
        return out

    def read(self, message: bytes) -> bytes:
        """The payload of the next message, the peer's.

        :raises NoiseError: if it is forged or too short.
        """
        return self.read_payload(self.read_tokens(message))

    def read_tokens(self, message: bytes, until: str | None = None) -> bytes:
        """Read tokens up to and including `until` (default: all) and return the rest.

        :raises NoiseError: if one does not authenticate, or `message` is too short.
        """
        tokens = self._turn(writes=False)
        if until is not None and until not in tokens:
            raise RuntimeError(f"no {until} is left in this message")
        while tokens:
            token = tokens.pop(0)
            message = self._read_token(token, message)
            if token == until:
                break
        return message

    def read_payload(self, rest: bytes) -> bytes:
        """Open what follows the tokens, which ends the message.

        :raises NoiseError: if it does not authenticate.
        """
        if self._turn(writes=False):
            raise RuntimeError("tokens are left in this message")
        payload = self.symmetric.decrypt_and_hash(rest)
        self._end()
        return payload

    def _turn(self, writes: bool) -> list[str]:
        if not self._messages or self._writes != writes:
            raise RuntimeError("it is not this side's turn")
        return self._messages[0]

    def _end(self) -> None:
        self._messages.pop(0)
        self._writes = not self._writes

    def _write_token(self, token: str) -> bytes:
        if token == "e":
            self._ephemeral = self._ephemeral or generate_private()
            return self._mix_ephemeral(public_key(self._ephemeral))
        if token == "s":
            return self.symmetric.encrypt_and_hash(public_key(_have(self._static)))
        if token == "e1":
            self._kem = self._kem or MLKEM768PrivateKey.generate()
            return self.symmetric.encrypt_and_hash(kem_public(self._kem))
        if token == "ekem1":
            ciphertext, secret = kem_encapsulate(_have(self._remote_kem))
            sealed = self.symmetric.encrypt_and_hash(ciphertext)
            self.symmetric.mix_key(secret)
            return sealed
        self._mix(token)
        return b""

    def _read_token(self, token: str, message: bytes) -> bytes:
        """Return what is left of `message`."""
        if token == "e":
            self.remote_ephemeral, message = _take(message, KEY_BYTES)
            self._mix_ephemeral(self.remote_ephemeral)
        elif token == "s":
            self.remote_static, message = self._take_sealed(message, KEY_BYTES)
        elif token == "e1":
            self._remote_kem, message = self._take_sealed(message, KEM_KEY_BYTES)
        elif token == "ekem1":
            ciphertext, message = self._take_sealed(message, KEM_CIPHERTEXT_BYTES)
            assert self._kem is not None  # the pattern: we wrote e1
            self.symmetric.mix_key(self._kem.decapsulate(ciphertext))
        else:
            self._mix(token)
        return message

    def _take_sealed(self, message: bytes, size: int) -> tuple[bytes, bytes]:
        overhead = TAG_BYTES if self.symmetric.cipher.key is not None else 0
        sealed, rest = _take(message, size + overhead)
        return self.symmetric.decrypt_and_hash(sealed), rest

    def _mix_ephemeral(self, public: bytes) -> bytes:
        self.symmetric.mix_hash(public)
        if self._psk_mode:
            self.symmetric.mix_key(public)
        return public

    def _mix(self, token: str) -> None:
        """Mix the mesh secret, or a DH token, whose first letter is the initiator's key."""
        if token == "psk":
            self.symmetric.mix_key_and_hash(self._psks.pop(0))
            return
        own, remote = (0, 1) if self.initiator else (1, 0)
        private = self._static if token[own] == "s" else self._ephemeral
        public = self.remote_static if token[remote] == "s" else self.remote_ephemeral
        try:
            self.symmetric.mix_key(x25519(_have(private), _have(public)))
        except LowOrderPoint as error:
            raise NoiseError(str(error)) from None


def _take(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise NoiseError("the message is too short")
    return message[:size], message[size:]


def _have(key: bytes | None) -> bytes:
    if key is None:
        raise RuntimeError("the pattern needs a key that was not given")
    return key
