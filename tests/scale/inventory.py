# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory of N hosts that nobody has."""

from __future__ import annotations

import base64
import ipaddress
import random
from collections.abc import Mapping
from pathlib import Path

from nacl import bindings

UNDERLAY = ipaddress.IPv4Address("100.64.0.0")
OVERLAY = ipaddress.IPv4Address("10.64.0.0")
NETWORKS = ["10.64.0.0/10", "fd62:7269:6e65::/48"]
LOCAL = {"ansible_connection": "local"}


def names(count: int) -> list[str]:
    return [f"web{number:05}" for number in range(1, count + 1)]


def public_keys(count: int) -> list[str]:
    """The same every time."""
    draw = random.Random(count)
    return [
        base64.b64encode(bindings.crypto_scalarmult_base(draw.randbytes(32))).decode()
        for _ in range(count)
    ]


def make(directory: Path, count: int, variables: Mapping[str, str] = LOCAL) -> None:
    """Write `hosts.yml` into the directory; `variables` are all hosts'."""
    lines = ["brine:", "  vars:", "    brine_interface: eth0"]
    lines += [f"    {name}: {value}" for name, value in variables.items()]
    lines += [f"    brine_networks: {NETWORKS}", f"    brine_max_peers: {count}", "  hosts:"]
    for number, name in enumerate(names(count), 1):
        addresses = f"brine_endpoint: {UNDERLAY + number}, brine_addresses: [{OVERLAY + number}]"
        lines.append(f"    {name}: {{{addresses}}}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts.yml").write_text("\n".join(lines) + "\n")


def make_store(directory: Path, count: int) -> None:
    """Write `public_keys` into the directory, as if the hosts had made theirs."""
    store = directory / "public_keys"
    store.mkdir(parents=True)
    for name, key in zip(names(count), public_keys(count), strict=True):
        (store / f"{name}.txt").write_text(f"{key}\n")
