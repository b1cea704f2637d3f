# SPDX-License-Identifier: GPL-3.0-or-later
"""fastd with the same ciphers as brine."""

from __future__ import annotations

import re
import subprocess

from bench.tunnels.base import PORT, Tunnel


class Fastd(Tunnel):
    name = "fastd salsa20+poly1305"
    package = "fastd"

    def key_pair(self) -> tuple[str, str]:
        done = subprocess.run(
            self.inside("fastd", "--generate-key"), check=True, capture_output=True, text=True
        )
        secret, public = re.findall(r"(?:Secret|Public): ([0-9a-f]{64})", done.stdout + done.stderr)
        return secret, public

    def start(self) -> None:
        pairs = {host.namespace: self.key_pair() for host in self.rig.hosts}
        for host in self.rig.hosts:
            other = self.other(host)
            # If both dial, their handshakes can cross for ever: one only.
            remote = f'remote "{other.underlay}" port {PORT};' if host is self.rig.a else ""
            configuration = self.write(
                host,
                "fastd.conf",
                f'interface "{self.device}"; mode tun; mtu 1420; method "salsa20+poly1305";\n'
                f'bind {host.underlay}:{PORT}; secret "{pairs[host.namespace][0]}";\n'
                f'peer "other" {{ key "{pairs[other.namespace][1]}"; {remote} }}\n',
            )
            self.rig.start(host, *self.inside("fastd", "--config", configuration))
            self.address(host)
