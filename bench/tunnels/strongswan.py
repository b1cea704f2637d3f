# SPDX-License-Identifier: GPL-3.0-or-later
"""strongSwan with ESP in user space (kernel-libipsec): AES-256-GCM, pre-shared key."""

from __future__ import annotations

import secrets
import subprocess

from bench.rig import Host
from bench.tunnels.base import Tunnel, wait_for

PLUGINS = "random nonce openssl gcm vici kernel-libipsec kernel-netlink socket-default"


class StrongSwan(Tunnel):
    name = "strongSwan libipsec"
    package = "strongswan-charon"

    def swanctl(self, host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
        socket = f"unix:///run/{host.namespace}/charon.vici"
        command = self.inside("swanctl", *arguments, "--uri", socket)
        return subprocess.run(
            host.command(*command), capture_output=True, text=True, check=False, timeout=30
        )

    def start(self) -> None:
        secret = secrets.token_hex(32)
        for host in self.rig.hosts:
            other = self.other(host)
            directory = self.write(host, "unused", "").rsplit("/", 1)[0]
            self.write(
                host,
                "strongswan.conf",
                f"charon {{\n  load = {PLUGINS}\n  install_routes = yes\n  plugins {{\n"
                "    vici { socket = unix:///run/charon.vici }\n"
                "    kernel-libipsec { allow_peer_ts = yes }\n  }\n}\n",
            )
            self.write(
                host,
                "swanctl.conf",
                "connections { bench { version = 2\n encap = yes\n"
                f" local_addrs = {host.underlay}\n remote_addrs = {other.underlay}\n"
                f" local {{ auth = psk\n id = {host.underlay} }}\n"
                f" remote {{ auth = psk\n id = {other.underlay} }}\n"
                f" children {{ inner {{ local_ts = {host.inner}/32\n remote_ts = {other.inner}/32\n"
                " esp_proposals = aes256gcm16 } } } }\n"
                f'secrets {{ ike-bench {{ secret = "{secret}" }} }}\n',
            )
            host.ip("address", "add", f"{host.inner}/32", "dev", "lo")
            # Its process id file has a fixed name: a /run of its own for each host.
            script = f"mount --bind {directory} /run && exec /usr/lib/ipsec/charon"
            self.rig.start(
                host,
                *("unshare", "--mount"),
                *self.inside("env", "STRONGSWAN_CONF=/run/strongswan.conf", "sh", "-c", script),
            )
        for host in self.rig.hosts:
            socket = self.rig.work / "run" / host.namespace / "charon.vici"
            wait_for(socket.exists, f"charon made no {socket}")
            file = f"/run/{host.namespace}/swanctl.conf"
            loaded = self.swanctl(host, "--load-all", "--file", file)
            if loaded.returncode:
                raise RuntimeError(f"swanctl: {loaded.stderr or loaded.stdout}")
        begun = self.swanctl(self.rig.a, "--initiate", "--child", "inner")
        if begun.returncode:
            raise RuntimeError(f"strongSwan: {begun.stderr or begun.stdout}")
        for host in self.rig.hosts:  # its route is in a table of its own, without a source
            other = self.other(host)
            host.ip("route", "replace", f"{other.inner}/32", "dev", "ipsec0", "src", host.inner)
            host.ip("link", "set", "ipsec0", "mtu", "1400")
