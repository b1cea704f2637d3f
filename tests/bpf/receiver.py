# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that can open what one peer seals: the scene of the tests of `open`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.bpf import packets
from tests.bpf.host import MAC, PORT, Host, Keys

ASSOCIATION, PEER, OTHER_PEER = 3, 2, 1
INDEX, REMOTE = 0x11223344, 0x55667788
OURS = {4: "192.0.2.1", 6: "2001:db8::1"}  # underlay
THEIRS = {4: "198.51.100.9", 6: "2001:db8:9::9"}
INSIDE = {4: "10.77.0.1", 6: "fd62:7269:6e65::1"}  # overlay, ours
PEERS_OWN = {4: "10.77.0.2", 6: "fd62:7269:6e65::2"}
OTHERS = {4: "10.77.0.3", 6: "fd62:7269:6e65::3"}
NOBODYS = {4: "10.77.0.99", 6: "fd62:7269:6e65::99"}


@dataclass
class Receiver:
    """`host` with a peer, its routes and an association whose keys are known."""

    host: Host
    keys: Keys = field(default_factory=Keys)

    def __post_init__(self) -> None:
        host = self.host
        values = host.loaded.enum("route_value")
        host.configure(OURS[4], OURS[6])
        host.peer(PEER, (THEIRS[4], PORT))
        host.peer(OTHER_PEER, ("198.51.100.10", PORT))
        for network in ("10.77.0.0/16", "fd62:7269:6e65::/48"):
            host.route(network, values["ROUTE_NONE"])
        for family, bits in ((4, 32), (6, 128)):
            host.route(f"{INSIDE[family]}/{bits}", values["ROUTE_SELF"])
            host.route(f"{PEERS_OWN[family]}/{bits}", PEER)
            host.route(f"{OTHERS[family]}/{bits}", OTHER_PEER)
        host.route("172.16.8.0/24", PEER | values["ROUTE_OUTSIDE"])
        host.install(ASSOCIATION, PEER, self.keys, index=INDEX, remote=REMOTE, initiated=False)

    def inner(self, family: int = 4, payload: bytes = b"sealed text", **how: Any) -> bytes:
        """An inner packet from the peer to us."""
        return packets.udp_packet(
            PEERS_OWN[family], INSIDE[family], payload, ports=(1000, 2000), **how
        )

    def data(self, text: bytes, **how: Any) -> bytes:
        """DATA with `text`, as the peer would seal it."""
        return packets.data(self.keys.receive.key, self.keys.receive.nonce, INDEX, text, **how)

    def data_keyed(self, text: bytes, **how: Any) -> bytes:
        """DATA_KEYED likewise."""
        return packets.data_keyed(
            self.keys.receive.key, self.keys.receive.nonce, INDEX, text, **how
        )

    def frame(self, message: bytes, family: int = 4, **how: Any) -> bytes:
        """A message on the underlay, to our port."""
        vlan = how.pop("vlan", None)
        ports = how.pop("ports", (50000, PORT))
        return packets.ethernet(
            packets.udp_packet(THEIRS[family], OURS[family], message, ports=ports, **how),
            vlan=vlan,
        )

    def delivered(self, inner: bytes) -> bytes:
        """The frame that brine0 must get."""
        ethertype = packets.ETH_P_IP if inner[0] >> 4 == 4 else packets.ETH_P_IPV6
        return MAC + MAC + ethertype.to_bytes(2, "big") + inner
