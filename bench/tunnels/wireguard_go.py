# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard in user space, in Go (UDP and TUN offloads)."""

from __future__ import annotations

import subprocess

from bench.tunnels.base import PORT, Tunnel, wait_for


class WireGuardGo(Tunnel):
    name = "wireguard-go"
    package = "wireguard-go"

    def wg(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            self.inside("wg", *arguments), check=True, capture_output=True, text=True, input=text
        )
        return done.stdout.strip()

    def start(self) -> None:
        keys = {host.namespace: self.wg("genkey") for host in self.rig.hosts}
        for number, host in enumerate(self.rig.hosts):
            other = self.other(host)
            # Control sockets are named by device, and both hosts share /run.
            device = f"t{number}"
            public = self.wg("pubkey", text=keys[other.namespace])
            configuration = self.write(
                host,
                "wg.conf",
                f"[Interface]\nPrivateKey = {keys[host.namespace]}\nListenPort = {PORT}\n"
                f"[Peer]\nPublicKey = {public}\nAllowedIPs = {other.inner}/32\n"
                f"Endpoint = {other.underlay}:{PORT}\n",
            )
            self.rig.start(host, *self.inside("wireguard-go", "--foreground", device))
            socket = self.rig.work / "run" / "wireguard" / f"{device}.sock"
            wait_for(socket.exists, f"wireguard-go made no {socket}")
            host.run(*self.inside("wg", "setconf", device, configuration))
            self.address(host, device)
            host.ip("link", "set", device, "mtu", "1420")
