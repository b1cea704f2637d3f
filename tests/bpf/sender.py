# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that can seal to one peer: the scene of the tests of `seal`."""

from __future__ import annotations

import struct
from typing import Any

import nacl.bindings

from tests.bpf import packets
from tests.bpf.host import PORT, TC_REDIRECT, Host, Keys, on_cpu
from tests.bpf.receiver import INSIDE, OURS, PEERS_OWN, THEIRS

ASSOCIATION, PEER, OTHER_PEER = 2, 1, 3
INDEX, REMOTE = 0x0A0B0C0D, 0xF1F2F3F4
THEIR_PORT = PORT + 10
CPU = 0


class Sender:
    """`host` with a peer behind an endpoint of the given family, and an association."""

    def __init__(self, host: Host, family: int = 4, *, copy_dscp: bool = False) -> None:
        self.host = host
        self.family = family
        self.keys = Keys()
        values = host.loaded.enum("route_value")
        host.configure(OURS[4], OURS[6], copy_dscp=copy_dscp)
        host.peer(PEER, (THEIRS[family], THEIR_PORT))
        host.peer(OTHER_PEER, ("198.51.100.10", PORT))
        for network in ("10.77.0.0/16", "fd62:7269:6e65::/48"):
            host.route(network, values["ROUTE_NONE"])
        for inner, bits in ((4, 32), (6, 128)):
            host.route(f"{INSIDE[inner]}/{bits}", values["ROUTE_SELF"])
            host.route(f"{PEERS_OWN[inner]}/{bits}", PEER)
        host.route("172.16.8.0/24", PEER | values["ROUTE_OUTSIDE"])
        host.install(ASSOCIATION, PEER, self.keys, index=INDEX, remote=REMOTE)
        assert host.publish(ASSOCIATION) == "DONE"

    def inner(self, family: int = 4, payload: bytes = b"a plain text", **how: Any) -> bytes:
        """An inner packet from us to the peer."""
        how.setdefault("ports", (1000, 2000))
        return packets.udp_packet(INSIDE[family], PEERS_OWN[family], payload, **how)

    def seal(self, inner: bytes, *, behind: bytes = b"", lane: int = CPU) -> bytes:
        """The sealed IP packet; it must be sealed."""
        with on_cpu(lane):
            run = self.host.seal(packets.ethernet(inner) + behind)
        assert self.host.stats() == {"seal_ok": 1}
        assert run.value == TC_REDIRECT
        # bpf_redirect_neigh replaces these: test_wire.py sees what leaves.
        assert run.data[:14] == packets.ethernet(inner)[:14]
        return run.data[14:]

    def expected(
        self, text: bytes, sealed: bytes, *, counter: int, traffic_class: int = 0
    ) -> bytes:
        """The sealed packet by the protocol, byte for byte. The outer source port and the
        flow label are keyed hashes: they are taken from `sealed`."""
        message = packets.data(
            self.keys.send.key, self.keys.send.nonce, REMOTE, text, counter=counter, lane=CPU
        )
        at = 20 if self.family == 4 else 40
        port = struct.unpack_from("!H", sealed, at)[0]
        datagram = packets.udp(port, THEIR_PORT, message)
        if self.family == 4:
            return packets.ipv4(
                OURS[4], THEIRS[4], datagram, tos=traffic_class, fragment=0x4000, ttl=64
            )
        flow = int.from_bytes(sealed[:4], "big") & 0xFFFFF
        return packets.ipv6(
            OURS[6], THEIRS[6], datagram, traffic_class=traffic_class, flow=flow, hop_limit=64
        )

    def text(self, sealed: bytes) -> bytes:
        """What NaCl opens of it."""
        message = sealed[28 if self.family == 4 else 48 :]
        kind, _sgen, _rgen, lane, _index, counter = struct.unpack_from("<BBBBIQ", message)
        assert kind == 4
        nonce = self.keys.send.nonce + struct.pack("<Q", lane << 56 | counter)
        return nacl.bindings.crypto_secretbox_open(message[16:], nonce, self.keys.send.key)
