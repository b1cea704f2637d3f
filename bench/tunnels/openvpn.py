# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenVPN in peer-to-peer mode: TLS by fingerprints, ChaCha20-Poly1305 in user space."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.tunnels.base import PORT, Tunnel


def certificate(name: str) -> tuple[str, str, str]:
    """Key and self-signed certificate in PEM, and its SHA-256 fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    fingerprint = made.fingerprint(hashes.SHA256()).hex(":")
    return private.decode(), made.public_bytes(serialization.Encoding.PEM).decode(), fingerprint


class OpenVpn(Tunnel):
    name = "openvpn"
    package = "openvpn"

    def start(self) -> None:
        made = {host.namespace: certificate(host.namespace) for host in self.rig.hosts}
        for host in self.rig.hosts:
            other = self.other(host)
            key, own, _ = made[host.namespace]
            role = "tls-client" if host is self.rig.a else "tls-server"
            configuration = self.write(
                host,
                "openvpn.conf",
                f"dev {self.device}\ndev-type tun\nport {PORT}\nremote {other.underlay}\n"
                f"ifconfig {host.inner} {other.inner}\n{role}\n"
                + ("" if host is self.rig.a else "dh none\n")
                + "data-ciphers CHACHA20-POLY1305:AES-256-GCM\ndisable-dco\nverb 3\n"
                f"key {self.write(host, 'key.pem', key)}\n"
                f"cert {self.write(host, 'cert.pem', own)}\n"
                f"<peer-fingerprint>\n{made[other.namespace][2]}\n</peer-fingerprint>\n",
            )
            self.rig.start(host, *self.inside("openvpn", "--config", configuration))
