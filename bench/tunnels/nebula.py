# SPDX-License-Identifier: GPL-3.0-or-later
"""nebula, each host with the other in its static map."""

from __future__ import annotations

import json
import subprocess
from functools import partial

from bench.tunnels.base import PORT, Tunnel, wait_for


class Nebula(Tunnel):
    name = "nebula"
    package = "nebula"

    def certify(self, directory: str, *arguments: str) -> None:
        subprocess.run(
            self.inside("sh", "-c", f'cd {directory} && exec nebula-cert "$@"', "-", *arguments),
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        directory = self.write(self.rig.a, "unused", "").rsplit("/", 1)[0]
        self.certify(directory, "ca", "-name", "bench")
        for host in self.rig.hosts:
            self.certify(directory, "sign", "-name", host.namespace, "-ip", f"{host.inner}/24")
        for host in self.rig.hosts:
            other = self.other(host)
            configuration = {
                "pki": {
                    "ca": f"{directory}/ca.crt",
                    "cert": f"{directory}/{host.namespace}.crt",
                    "key": f"{directory}/{host.namespace}.key",
                },
                "static_host_map": {other.inner: [f"{other.underlay}:{PORT}"]},
                "lighthouse": {"am_lighthouse": False, "hosts": []},
                "listen": {"host": host.underlay, "port": PORT},
                "tun": {"dev": self.device, "mtu": 1420, "tx_queue": 1000},
                "firewall": {
                    "outbound": [{"port": "any", "proto": "any", "host": "any"}],
                    "inbound": [{"port": "any", "proto": "any", "host": "any"}],
                },
            }
            # YAML is a superset of JSON.
            path = self.write(host, "nebula.yml", json.dumps(configuration))
            self.rig.start(host, *self.inside("nebula", "-config", path))
            wait_for(partial(self.has_device, host, self.device), "nebula made no device")
