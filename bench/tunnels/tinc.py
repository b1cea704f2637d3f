# SPDX-License-Identifier: GPL-3.0-or-later
"""tinc 1.0 (1.1 is in no Debian release): AES-256-CBC with SHA-256, its own default."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.tunnels.base import PORT, Tunnel


class Tinc(Tunnel):
    name = "tinc"
    package = "tinc"

    def start(self) -> None:
        keys = {
            host.namespace: rsa.generate_private_key(public_exponent=65537, key_size=2048)
            for host in self.rig.hosts
        }
        names = {self.rig.a.namespace: "a", self.rig.b.namespace: "b"}
        for host in self.rig.hosts:
            other = self.other(host)
            directory = self.write(host, "unused", "").rsplit("/", 1)[0]
            (self.rig.work / "run" / host.namespace / "hosts").mkdir()
            for each in self.rig.hosts:
                public = keys[each.namespace].public_key()
                text = public.public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.PKCS1
                ).decode()
                self.write(
                    host,
                    f"hosts/{names[each.namespace]}",
                    f"Address = {each.underlay}\nPort = {PORT}\nSubnet = {each.inner}/32\n{text}",
                )
            private = keys[host.namespace].private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
            self.write(host, "rsa_key.priv", private.decode())
            dial = f"ConnectTo = {names[other.namespace]}\n" if host is self.rig.a else ""
            self.write(
                host,
                "tinc.conf",
                f"Name = {names[host.namespace]}\nInterface = {self.device}\n{dial}",
            )
            pid = f"{directory}/pid"
            self.rig.start(
                host, *self.inside("tincd", "-D", "-d1", "-c", directory, f"--pidfile={pid}")
            )
            self.address(host)
