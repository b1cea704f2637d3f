# SPDX-License-Identifier: GPL-3.0-or-later
"""No tunnel: what the path itself can do, with and without segmentation offload."""

from __future__ import annotations

from bench.rig import UNDERLAY
from bench.tunnels.base import Tunnel


class Plain(Tunnel):
    name = "plain veth"
    device = UNDERLAY

    def start(self) -> None:
        for host in self.rig.hosts:
            host.ip("address", "add", f"{host.inner}/24", "dev", UNDERLAY)


class PlainSegmented(Plain):
    name = "plain veth, no offload"
    placements = ("placed", "spread")  # over the wire, there is none anyway, and GRO must stay

    def start(self) -> None:
        super().start()
        for host in self.rig.hosts:
            host.run(
                "ethtool", "-K", UNDERLAY, "tso", "off", "gso", "off", "gro", "off", "tx", "off"
            )
