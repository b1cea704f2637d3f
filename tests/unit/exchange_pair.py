# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts that exchange, for the tests of brine.exchange."""

from __future__ import annotations

import dataclasses

from brine import keys
from brine.exchange import Credential, Established, ExchangeKeys, Initiator, Responder
from brine.layout import Layout

PSK = b"mesh secret of thirty-two bytes!"
TIMESTAMP = bytes.fromhex("400000006553f10000000000")


@dataclasses.dataclass
class Host:
    private: bytes = dataclasses.field(default_factory=keys.generate_private)

    @property
    def public(self) -> bytes:
        return keys.public_key(self.private)


class Pair:
    """Two hosts that have each other in their rosters."""

    def __init__(self, layout: Layout, psk: bytes = PSK) -> None:
        self.layout, self.psk = layout, psk
        self.alice, self.bob = Host(), Host()
        self.roster = {self.alice.public, self.bob.public}
        self.responder = Responder(
            layout, [Credential(self.bob.private, psk)], self.roster.__contains__
        )

    def initiator(self, made: ExchangeKeys | None = None, cookie: bytes | None = None) -> Initiator:
        return Initiator(
            self.layout,
            self.alice.private,
            self.bob.public,
            self.psk,
            0x11111111,
            TIMESTAMP,
            cookie,
            exchange_keys=made,
        )

    def run(self) -> tuple[Established, Established]:
        initiator = self.initiator()
        response, theirs = self.responder.respond(
            self.responder.open_initiation(initiator.message), 0x22222222
        )
        return initiator.consume(response), theirs


def opposite(one: Established, other: Established) -> bool:
    """Whether these are the two ends of one association."""
    return (
        one.secret == other.secret
        and one.send == other.receive
        and one.receive == other.send
        and one.send != one.receive
        and one.send_header_key == other.receive_header_key
        and one.receive_header_key == other.send_header_key
        and one.send_header_key != one.receive_header_key
        and one.local_index == other.remote_index
        and one.remote_index == other.local_index
        and one.own_identity == other.peer_identity
        and one.peer_identity == other.own_identity
        and one.own_public == other.peer_public == keys.public_key(one.own_private)
        and one.peer_public == other.own_public == keys.public_key(other.own_private)
        and one.initiated != other.initiated
    )
