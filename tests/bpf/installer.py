# SPDX-License-Identifier: GPL-3.0-or-later
"""Calling the `control` program, and seeing all that it may write."""

from __future__ import annotations

from typing import Any

from tests.bpf.host import Host, Keys

SLOT, PEER, INDEX, REMOTE = 4, 2, 0xA1A2A3A4, 0xB1B2B3B4
REST_NS, RETIRE_NS = 10 * 10**9, 600 * 10**9


def install(host: Host, keys: Keys, slot: int = SLOT, **how: Any) -> str:
    how = {"index": INDEX, "remote": REMOTE} | how
    return host.control(host.install_request(slot, how.pop("peer", PEER), keys, **how))


def image(host: Host) -> dict[str, list[bytes]]:
    """All that `control` may write."""
    found = {}
    for name in ("associations", "boxes", "counters", "windows", "peer_states"):
        item = host.loaded.map(name)
        found[name] = [host.value(name, number) for number in range(item.max_entries)]
    for name in ("indices", "retired"):
        item = host.loaded.map(name)
        found[name] = sorted(key + (item.lookup(key) or b"") for key in list(item.keys()))
    return found


def everything(host: Host) -> bytes:
    """All maps that may hold a secret, work areas included, joined."""
    found = [b"".join(values) for values in image(host).values()]
    for name in ("control_areas", "open_pair_areas", "seal_areas", "open_areas"):
        found.append(host.value(name, 0))
    return b"".join(found)


def rested(host: Host, slot: int = SLOT) -> None:
    """Let ten seconds pass for the slot, in its own record of them."""
    association = host.read("associations", "association", slot)
    association.created -= REST_NS
    host.write("associations", slot, association)
