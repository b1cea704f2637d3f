# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh as text: a row a host, or host × host for a mesh that fits a screen."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

Status = Mapping[str, t.Any]

NONE = "-"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 12 s, 3 min, 2 h, 5 d."""
    if seconds is None:
        return NONE
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def amount(count: int) -> str:
    """Bytes, in units of 1024."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def summary(statuses: Mapping[str, Status | None]) -> list[str]:
    """A row a host. A host without a status did not answer."""
    head = ["host", "daemon", "XDP", "MTU", "peers", "associated", "received", "sent", "dropped"]
    rows = [head]
    for host, status in statuses.items():
        if status is None:
            rows.append([host, "no answer", *[NONE] * (len(head) - 2)])
            continue
        peers = status["peers"]
        rows.append(
            [
                host,
                "running" if (status.get("daemon") or {}).get("running") else "DOWN",
                str(status.get("xdp_mode") or NONE),
                str(status.get("mtu") or NONE),
                str(len(peers)),
                str(sum(1 for peer in peers if is_confirmed(peer))),
                amount(sum(peer.get("received_bytes") or 0 for peer in peers)),
                amount(sum(peer.get("sent_bytes") or 0 for peer in peers)),
                str(sum((status.get("drops") or {}).values())),
            ]
        )
    return columns(rows)


def is_confirmed(peer: Mapping[str, t.Any]) -> bool:
    """Whether both sides have authenticated each other."""
    association = peer.get("association")
    return association is not None and association["state"] == "confirmed"


def matrix(
    statuses: Mapping[str, Status | None], reached: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Host × host: round trip through the mesh and age of the association.

    reached: for each host, milliseconds to the peers that answered it.
    """
    hosts = list(statuses)
    rows = [["from \\ to", *hosts]]
    for host in hosts:
        status = statuses[host]
        peers = {peer["name"]: peer for peer in status["peers"]} if status else {}
        rows.append(
            [host]
            + [
                "·" if other == host else cell(peers.get(other), reached.get(host, {}).get(other))
                for other in hosts
            ]
        )
    return columns(rows)


def cell(peer: Mapping[str, t.Any] | None, milliseconds: float | None) -> str:
    """What one host says of one peer."""
    association = (peer or {}).get("association")
    age = duration(association.get("age_seconds")) if association else NONE
    trip = f"{milliseconds:.2f} ms" if milliseconds is not None else "no answer"
    return f"{trip}, {age} old" if association else trip


def outcome(
    statuses: Mapping[str, Status | None], reached: Mapping[str, Mapping[str, float]]
) -> str:
    """How many of the pairs answered."""
    hosts = list(statuses)
    pairs = len(hosts) * (len(hosts) - 1)
    good = sum(1 for host in hosts for other in reached.get(host, {}) if other in statuses)
    return f"{good} of {pairs} pairs answered a ping through brine0"
