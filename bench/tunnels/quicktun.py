# SPDX-License-Identifier: GPL-3.0-or-later
"""quicktun with its protocol `nacl0`: crypto_box on every packet."""

from __future__ import annotations

import nacl.bindings

from bench.tunnels.base import PORT, Tunnel


class QuickTun(Tunnel):
    name = "quicktun nacl0"
    package = "quicktun"

    def start(self) -> None:
        pairs = {host.namespace: nacl.bindings.crypto_box_keypair() for host in self.rig.hosts}
        for host in self.rig.hosts:
            other = self.other(host)
            # Debian's build reads IF_QT_*; other names are ignored, and then it sends in the clear.
            settings = {
                "IF_QT_PROTOCOL": "nacl0",
                "IFACE": self.device,
                "IF_QT_TUN_MODE": "1",
                "IF_QT_LOCAL_ADDRESS": host.underlay,
                "IF_QT_LOCAL_PORT": str(PORT),
                "IF_QT_REMOTE_ADDRESS": other.underlay,
                "IF_QT_REMOTE_PORT": str(PORT),
                "IF_QT_PRIVATE_KEY": pairs[host.namespace][1].hex(),
                "IF_QT_PUBLIC_KEY": pairs[other.namespace][0].hex(),
            }
            assignments = [f"{name}={value}" for name, value in settings.items()]
            self.rig.start(host, *self.inside("env", *assignments, "quicktun"))
            self.address(host)
            host.ip("link", "set", self.device, "mtu", "1420")
