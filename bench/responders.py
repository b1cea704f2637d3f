# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that answer, as many as asked for, in one process: python -m bench.responders FILE.

FILE (JSON): the object's path, `port`, the `peer` that they answer (its public key, base64), and
`private`: the private key (base64) of the identity at each address. All addresses are local to
the namespace that the process runs in.

They speak the exchange with brine's own library, and open and seal data with libsodium. The first
packet under an association is answered, as docs/protocol.md asks of a responder, and so is
whatever is not empty. They do not initiate, and do not turn the ratchet. Ends with SIGTERM,
and then prints what it has counted, as JSON.
"""

from __future__ import annotations

import base64
import ctypes
import ipaddress
import json
import signal
import socket
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from brine import keys
from brine.exchange import Credential, Established, Refused, Responder
from brine.layout import Layout
from brine.libbpf import Object

_IP_PKTINFO = 8  # linux/in.h
_PKTINFO = struct.Struct("=i4s4s")
_BUFFER = 8 << 20
_SO_RCVBUFFORCE = 33
LANE, TAG = 0, 16


@dataclass
class Peer:
    """One identity. `associations` by our index."""

    responder: Responder
    associations: dict[int, Association] = field(default_factory=dict)


@dataclass
class Association:
    established: Established = field(repr=False)
    sent: int = 0
    opened: int = 0


class Peers:
    """All of them, behind one socket."""

    def __init__(self, layout: Layout, port: int, peer: bytes, private: dict[str, bytes]) -> None:
        self._layout = layout
        self._port = port
        self._types = layout.enum("message_type")
        self._header: Any = layout.message_data
        self._peers = {
            ipaddress.IPv4Address(address).packed: Peer(
                Responder(layout, [Credential(key)], lambda identity: identity == peer)
            )
            for address, key in private.items()
        }
        self._next_index = 1
        self.counted = {"answered": 0, "confirmed": 0, "refused": 0}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._socket.bind(("0.0.0.0", port))

    def run(self) -> None:
        """For ever."""
        while True:
            data, ancillary, _, source = self._socket.recvmsg(2048, 64)
            for _, kind, raw in ancillary:
                if kind != _IP_PKTINFO:
                    continue
                ours = _PKTINFO.unpack(raw)[2]
                try:
                    answer = self._answer(self._peers[ours], data)
                except (Refused, CryptoError, KeyError):
                    self.counted["refused"] += 1
                    continue
                if answer is not None:
                    info = [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, ours, bytes(4)))]
                    # Data leaves a host from a port of its flow's own, and comes in at `port`.
                    exchange = answer[0] != self._types["MESSAGE_DATA"]
                    target = source if exchange else (source[0], self._port)
                    self._socket.sendmsg([answer], info, 0, target)

    def _answer(self, peer: Peer, data: bytes) -> bytes | None:
        """:raises Refused, CryptoError, KeyError: if it is not authentic."""
        if data[0] == self._types["MESSAGE_DATA"]:
            return self._data(peer, data)
        opened = peer.responder.open_initiation(data)
        index, self._next_index = self._next_index, self._next_index + 1
        message, established = peer.responder.respond(opened, index)
        peer.associations[index] = Association(established)
        self.counted["answered"] += 1
        return message

    def _data(self, peer: Peer, data: bytes) -> bytes | None:
        size = ctypes.sizeof(self._header)
        header = self._header.from_buffer_copy(data)
        association = peer.associations[header.receiver]
        box = association.established.receive
        nonce = keys.box_nonce(box.nonce, header.lane, header.counter)
        text = crypto_secretbox_open(data[size - TAG :], nonce, box.key)
        association.opened += 1
        if association.opened == 1:
            self.counted["confirmed"] += 1
        elif not text:
            return None
        return self._keepalive(association)

    def _keepalive(self, association: Association) -> bytes:
        """An empty DATA."""
        header = self._header(
            type=self._types["MESSAGE_DATA"],
            lane=LANE,
            receiver=association.established.remote_index,
            counter=association.sent,
        )
        box = association.established.send
        nonce = keys.box_nonce(box.nonce, LANE, association.sent)
        association.sent += 1
        return bytes(header)[: ctypes.sizeof(self._header) - TAG] + crypto_secretbox(
            b"", nonce, box.key
        )


def end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit


def main() -> None:
    signal.signal(signal.SIGTERM, end)
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    private = {address: base64.b64decode(key) for address, key in given["private"].items()}
    layout = Layout(Object(given["object"]).btf)
    peers = Peers(layout, given["port"], keys.parse_key(given["peer"]), private)
    print("ready", flush=True)
    try:
        peers.run()
    finally:
        print(json.dumps(peers.counted), flush=True)


if __name__ == "__main__":
    main()
