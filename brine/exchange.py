# SPDX-License-Identifier: GPL-3.0-or-later
"""The exchange of brine/1, both sides, without sockets, clock or roster file.

    Initiator                                    Responder
      .message  ── INITIATION (e, e1, s, P0) ──→  check_mac1, check_mac2 or cookie_reply
                                                  open_initiation → Opened; the caller
                                                  looks at the timestamp and decides
      consume   ←── RESPONSE (e, ekem1, P0) ────  respond → RESPONSE and Established
      → Established

``Noise_IKpsk0+hfs_25519+MLKEM768_ChaChaPoly_BLAKE2b``, `-> psk, e, es, e1, s, ss` and
`<- e, ee, ekem1, se` (docs/protocol.md). What is refused raises :class:`Refused` and leaves
both sides as they were. A retry is a new Initiator: no message is ever sent twice.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from brine import keys, messages
from brine.keys import Box
from brine.layout import Layout
from brine.messages import Refused
from brine.noise import Handshake, NoiseError, pattern

__all__ = ["NO_PSK", "Credential", "Established", "Initiator", "Opened", "Refused", "Responder"]

PROTOCOL = "Noise_IKpsk0+hfs_25519+MLKEM768_ChaChaPoly_BLAKE2b"
PROLOGUE = b"brine/1"
NO_PSK = bytes(32)  #: the mesh secret when none is set


@dataclass(frozen=True)
class Credential:
    """An identity of this host together with a mesh secret it may be used with."""

    private: bytes = field(repr=False)  #: 32 bytes
    psk: bytes = field(default=NO_PSK, repr=False)  #: 32 bytes
    public: bytes = field(init=False)
    mac1_key: bytes = field(init=False, repr=False)  #: of messages to this identity

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", keys.public_key(self.private))
        object.__setattr__(self, "mac1_key", keys.mac1_key(self.psk, self.public))


@dataclass(frozen=True)
class ExchangeKeys:
    """The key pairs made for one exchange. Fixed ones are for test vectors only."""

    ephemeral: bytes = field(default_factory=keys.generate_private, repr=False)
    association: bytes = field(default_factory=keys.generate_private, repr=False)  #: of P0
    kem: MLKEM768PrivateKey | None = field(default=None, repr=False)  #: initiator; None: made


@dataclass(frozen=True)
class Established:
    """An association as one side has it: all that INSTALL needs, and no `repr` of a secret."""

    peer_identity: bytes  #: 32 bytes
    own_identity: bytes  #: 32 bytes: which of ours it was made with
    initiated: bool
    local_index: int  #: in packets we receive
    remote_index: int  #: in packets we send
    secret: bytes = field(repr=False)  #: A, 32 bytes
    send_header_key: bytes = field(repr=False)  #: 32 bytes
    receive_header_key: bytes = field(repr=False)  #: 32 bytes
    own_private: bytes = field(repr=False)  #: association key of generation 0
    own_public: bytes
    peer_public: bytes
    send: Box = field(repr=False)  #: pair (0, 0)
    receive: Box = field(repr=False)  #: pair (0, 0)


@dataclass(frozen=True)
class Opened:
    """An authentic INITIATION. Whether it is fresh is the caller's decision."""

    identity: bytes  #: the initiator's public key, 32 bytes
    sender_index: int
    timestamp: bytes  #: TAI64N, 12 bytes: compares as bytes
    credential: Credential  #: of ours, which mac1 selected
    peer_public: bytes  #: P0
    handshake: Handshake = field(repr=False)


class Initiator:
    """One INITIATION and the wait for its answer.

    :param timestamp: TAI64N, 12 bytes, above all earlier ones of this identity.
    :param cookie: from a COOKIE that answered an earlier INITIATION to this peer.
    :raises ValueError: if the peer's key is our own, of low order, or a length is wrong.
    """

    def __init__(
        self,
        layout: Layout,
        identity_private: bytes,
        peer_public: bytes,
        psk: bytes,
        sender_index: int,
        timestamp: bytes,
        cookie: bytes | None = None,
        *,
        exchange_keys: ExchangeKeys | None = None,
    ) -> None:
        self._layout = layout
        self._credential = Credential(identity_private, psk)
        if hmac.compare_digest(self._credential.public, peer_public):
            raise ValueError("the peer's identity is our own")
        self.peer_identity = peer_public
        self.own_identity = self._credential.public
        self.sender_index = sender_index
        made = exchange_keys or ExchangeKeys()
        self._association_private = made.association
        self._handshake: Handshake | None = Handshake(
            pattern(PROTOCOL),
            True,
            PROLOGUE,
            static=identity_private,
            remote_static=peer_public,
            psks=(psk,),
            ephemeral=made.ephemeral,
            kem=made.kem,
        )
        payload = messages.initiation_payload(
            timestamp, sender_index, keys.public_key(self._association_private)
        )
        self.message = messages.initiation(  #: INITIATION, to be sent once
            layout,
            sender_index,
            self._handshake.write(payload),
            keys.mac1_key(psk, peer_public),
            cookie,
        )

    def consume(self, response: bytes) -> Established:
        """Open the RESPONSE. Once only: a second one is refused.

        :raises Refused: and the wait goes on as if nothing had come.
        """
        if self._handshake is None:
            raise Refused("a second RESPONSE")
        message = messages.parse(self._layout, messages.RESPONSE, response)
        if not messages.mac1_is_valid(self._layout, response, self._credential.mac1_key):
            raise Refused("mac1 of a RESPONSE does not fit")
        if bytes(message.mac2) != messages.NO_MAC2:
            raise Refused("mac2 of a RESPONSE, for which no cookie exists")
        if message.receiver != self.sender_index:
            raise Refused("a RESPONSE for another index")
        handshake = self._handshake.fork()
        try:
            payload = handshake.read(messages.noise_part(self._layout, response))
        except NoiseError as error:
            raise Refused(f"a RESPONSE: {error}") from None
        sender, peer_public = messages.parse_response_payload(payload)
        if sender != message.sender:
            raise Refused("clear and sealed index of a RESPONSE differ")
        established = _establish(
            handshake,
            own_identity=self._credential.public,
            own_private=self._association_private,
            peer_public=peer_public,
            local_index=self.sender_index,
            remote_index=sender,
        )
        self._handshake = None
        return established

    def consume_cookie(self, data: bytes) -> bytes:
        """The cookie in a COOKIE that answers our INITIATION: 16 bytes for the next Initiator.

        :raises Refused: if it does not.
        """
        mac1 = messages.mac1(self._layout, self.message)
        key = keys.cookie_key(self._credential.psk, self.peer_identity, mac1)
        return messages.open_cookie(self._layout, data, self.sender_index, key)


class Responder:
    """Answers INITIATIONs to any of this host's credentials. Holds no state of exchanges.

    :param credentials: more than one while an identity or the mesh secret is being rotated.
    :param is_peer: whether an identity is in the roster.
    """

    def __init__(
        self,
        layout: Layout,
        credentials: Sequence[Credential],
        is_peer: Callable[[bytes], bool],
    ) -> None:
        self._layout = layout
        self._credentials = tuple(credentials)
        self._is_peer = is_peer
        self._pattern = pattern(PROTOCOL)

    def classify(self, message: bytes) -> str:
        """Which message it has the shape of: ``messages.INITIATION`` and so on.

        :raises messages.MalformedMessage: if none.
        """
        return messages.kind(self._layout, message)

    def check_mac1(self, message: bytes) -> Credential:
        """The credential of ours that an INITIATION is for.

        :raises Refused: if it is for none.
        """
        messages.parse(self._layout, messages.INITIATION, message)
        for credential in self._credentials:
            if messages.mac1_is_valid(self._layout, message, credential.mac1_key):
                return credential
        raise Refused("mac1 of an INITIATION does not fit")

    def check_mac2(self, message: bytes, cookie: bytes) -> bool:
        """Whether the INITIATION shows that its sender received `cookie`.

        :raises Refused: if mac1 does not fit.
        """
        self.check_mac1(message)
        return messages.mac2_is_valid(self._layout, message, cookie)

    def cookie_reply(self, message: bytes, cookie: bytes) -> bytes:
        """The COOKIE that answers an INITIATION under load.

        :param cookie: of the datagram's source, see :func:`brine.keys.cookie`.
        :raises Refused: if mac1 does not fit: others get silence.
        """
        credential = self.check_mac1(message)
        parsed = messages.parse(self._layout, messages.INITIATION, message)
        key = keys.cookie_key(credential.psk, credential.public, bytes(parsed.mac1))
        return messages.seal_cookie(self._layout, parsed.sender, key, cookie)

    def open_initiation(self, message: bytes) -> Opened:
        """Authenticate an INITIATION, in the order that costs least for forged ones: size,
        mac1, es, identity in the roster, ss. ML-KEM is left to :meth:`respond`.

        :raises Refused: if it is not authentic, or from nobody in the roster.
        """
        credential = self.check_mac1(message)
        parsed = messages.parse(self._layout, messages.INITIATION, message)
        handshake = Handshake(
            self._pattern, False, PROLOGUE, static=credential.private, psks=(credential.psk,)
        )
        try:
            rest = handshake.read_tokens(messages.noise_part(self._layout, message), until="s")
            identity = handshake.remote_static
            assert identity is not None  # `s` has been read
            if any(hmac.compare_digest(identity, one.public) for one in self._credentials):
                raise Refused("an INITIATION under our own identity")
            if not self._is_peer(identity):
                raise Refused("an INITIATION from an identity outside the roster")
            payload = handshake.read_payload(handshake.read_tokens(rest))
        except NoiseError as error:
            raise Refused(f"an INITIATION: {error}") from None
        timestamp, sender, peer_public = messages.parse_initiation_payload(payload)
        if sender != parsed.sender:
            raise Refused("clear and sealed index of an INITIATION differ")
        return Opened(identity, sender, timestamp, credential, peer_public, handshake)

    def respond(
        self, opened: Opened, own_index: int, *, exchange_keys: ExchangeKeys | None = None
    ) -> tuple[bytes, Established]:
        """The RESPONSE and what it establishes once the initiator's first packet opens.

        :raises Refused: if the initiator's ML-KEM key or association key must be refused.
        """
        made = exchange_keys or ExchangeKeys()
        handshake = opened.handshake.fork(made.ephemeral)
        payload = messages.response_payload(own_index, keys.public_key(made.association))
        try:
            noise = handshake.write(payload)
        except NoiseError as error:
            raise Refused(f"an INITIATION: {error}") from None
        established = _establish(
            handshake,
            own_identity=opened.credential.public,
            own_private=made.association,
            peer_public=opened.peer_public,
            local_index=own_index,
            remote_index=opened.sender_index,
        )
        mac1_key = keys.mac1_key(opened.credential.psk, opened.identity)
        message = messages.response(self._layout, own_index, opened.sender_index, noise, mac1_key)
        return message, established


def _establish(
    handshake: Handshake,
    *,
    own_identity: bytes,
    own_private: bytes,
    peer_public: bytes,
    local_index: int,
    remote_index: int,
) -> Established:
    """What follows from ck and h after RESPONSE's payload, and from both sides' P0."""
    initiated = handshake.initiator
    peer_identity = handshake.remote_static
    assert peer_identity is not None  # IK: both sides know it by now
    made = keys.association_keys(handshake.symmetric.chaining_key, handshake.symmetric.hash)
    header_keys = made.header_initiator, made.header_responder
    own_public = keys.public_key(own_private)
    try:
        dh = keys.beforenm(own_private, peer_public)
    except ValueError as error:  # low order, or our own
        raise Refused(f"the peer's association key: {error}") from None
    return Established(
        peer_identity=peer_identity,
        own_identity=own_identity,
        initiated=initiated,
        local_index=local_index,
        remote_index=remote_index,
        secret=made.secret,
        send_header_key=header_keys[0 if initiated else 1],
        receive_header_key=header_keys[1 if initiated else 0],
        own_private=own_private,
        own_public=own_public,
        peer_public=peer_public,
        send=keys.derive_box(made.secret, 0, 0, dh, own_public, peer_public),
        receive=keys.derive_box(made.secret, 0, 0, dh, peer_public, own_public),
    )
