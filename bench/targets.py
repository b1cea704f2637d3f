# SPDX-License-Identifier: GPL-3.0-or-later
"""What brine wants to reach, and whether a run shows it.

A ratio is taken round by round, within the run, between values that were measured minutes apart
at most; its median decides. Where many peers are meant, the worst for brine is the one that is
shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.results import Spread

OURS, PLAIN, WIREGUARD_GO = "brine", "plain veth", "wireguard-go"
PLACEMENTS = {"placed": "as placed", "spread": "spread", "wired": "wired"}  #: rig.py, in words
Data = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One line of the table. `spread` is None if this run has not measured it."""

    what: str
    limit: float
    at_least: bool
    digits: int
    unit: str
    spread: Spread | None
    beside: str = ""  #: the peer that was the hardest
    strict: bool = False  #: the limit itself does not do

    @property
    def met(self) -> bool | None:
        if self.spread is None:
            return None
        value = self.spread.median
        if self.strict and value == self.limit:
            return False
        return value >= self.limit if self.at_least else value <= self.limit

    def line(self) -> str:
        """Of a Markdown table."""
        sign = "≥" if self.at_least else ("<" if self.strict else "≤")
        verdict = {True: "met", False: "**not met**", None: "not measured"}[self.met]
        found = "" if self.spread is None else self.spread.text(self.digits)
        beside = f" ({self.beside})" if self.beside else ""
        limit = f"{sign} {self.limit:g}{self.unit}"
        return f"| {self.what} | {limit} | {found}{beside} | {verdict} |"


def by_round(data: Data, section: str, key: str, **where: object) -> dict[int, float]:
    """Round -> value, of the entries that fit."""
    return {
        entry["round"]: entry[key]
        for entry in data.get(section, [])
        if all(entry.get(name) == value for name, value in where.items())
    }


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """Of the rounds that have both."""
    found = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
    return Spread.of(found) if found else None


def spread_of(values: Mapping[int, float], factor: float = 1.0) -> Spread | None:
    return Spread.of(value * factor for value in values.values()) if values else None


def names(data: Data) -> list[str]:
    """Tunnels, in the order of the run."""
    return list(dict.fromkeys(entry["name"] for entry in data.get("tunnels", [])))


def beside(data: Data, key: str, placement: str) -> dict[str, Spread]:
    """brine as a multiple of each other tunnel."""
    ours = by_round(data, "tunnels", key, name=OURS, placement=placement)
    found = {}
    for name in names(data):
        theirs = by_round(data, "tunnels", key, name=name, placement=placement)
        spread = ratios(ours, theirs)
        if name != OURS and spread is not None:
            found[name] = spread
    return found


def tunnels(data: Data, placement: str) -> Iterator[Target]:
    label = PLACEMENTS[placement]

    def against(
        what: str, key: str, limit: float, at_least: bool, only: bool | None, strict: bool = False
    ) -> Target:
        """`only`: wireguard-go alone; None: with all others; False: all others but it."""
        found = {
            name: spread
            for name, spread in beside(data, key, placement).items()
            if not name.startswith(PLAIN) and (only is None or (name == WIREGUARD_GO) == only)
        }
        hardest = None
        if found:
            pick = min if at_least else max
            hardest = pick(found, key=lambda name: found[name].median)
        return Target(
            f"{what}, {label}",
            limit,
            at_least,
            2,
            " ×",
            found[hardest] if hardest else None,
            hardest or "",
            strict,
        )

    yield against("TCP, one flow, each peer but wireguard-go", "tcp1", 1.3, True, False)
    yield against("TCP, one flow, wireguard-go", "tcp1", 0.8, True, True)
    yield against("CPU per GB, each peer but wireguard-go", "cpu", 1, False, False, True)
    yield against("CPU per GB, wireguard-go", "cpu", 1.3, False, True)
    yield against("64-byte packets delivered, best peer", "packets", 1.4, True, None)
    ours = by_round(data, "tunnels", "rtt", name=OURS, placement=placement)
    plain = by_round(data, "tunnels", "rtt", name=PLAIN, placement=placement)
    more = {number: ours[number] - plain[number] for number in ours if number in plain}
    what = f"round trip over plain veth's, {label}"
    yield Target(what, 15, False, 1, " µs", spread_of(more))


def primitives(data: Data) -> Iterator[Target]:
    def row(name: str) -> tuple[dict[int, float], dict[int, float]]:
        return (
            by_round(data, "primitives", "bpf_ns", name=name),
            by_round(data, "primitives", "libsodium_ns", name=name),
        )

    for verb in ("seal", "open"):
        what = f"{verb}, 1420 bytes, libsodium's crypto_secretbox"
        yield Target(what, 2.9, False, 2, " ×", ratios(*row(f"secretbox {verb}, 1420 bytes")))
    for verb in ("seal", "open"):
        ours, _ = row(f"secretbox {verb}, 64 bytes")
        yield Target(f"{verb}, 64 bytes", 0.45, False, 3, " µs", spread_of(ours, 1e-3))
    yield Target("X25519, libsodium's", 3.7, False, 2, " ×", ratios(*row("X25519")))


def fleet(data: Data) -> Iterator[Target]:
    for peers, limit in ((10, 60), (1000, 120)):
        daemon = by_round(data, "scaling", "daemon", peers=peers)
        maps = by_round(data, "scaling", "maps", peers=peers)
        both = {number: daemon[number] + maps[number] for number in daemon}
        what = f"memory of a host with {peers} peers, daemon and maps"
        yield Target(what, limit, False, 0, " MB", spread_of(both, 1e-6))
    daemon = by_round(data, "restart", "daemon_memory", peers=1000)
    maps = by_round(data, "restart", "maps", peers=1000)
    both = {number: daemon[number] + maps[number] for number in daemon}
    what = "the same, all 1000 associations standing"
    yield Target(what, 120, False, 0, " MB", spread_of(both, 1e-6))
    every = by_round(data, "restart", "all", peers=1000)
    what = "all associations after a restart, 1000 peers"
    yield Target(what, 15, False, 1, " s", spread_of(every))
    many = by_round(data, "scaling", "tcp", peers=10000)
    one = by_round(data, "scaling", "tcp", peers=1)
    yield Target("TCP, one flow, 10000 peers beside 1", 0.95, True, 2, " ×", ratios(many, one))


def all_targets(data: Data) -> list[Target]:
    return [
        *(target for placement in PLACEMENTS for target in tunnels(data, placement)),
        *primitives(data),
        *fleet(data),
    ]


def median(data: Data, section: str, key: str, **where: object) -> float | None:
    """Of the rounds."""
    found = by_round(data, section, key, **where)
    return statistics.median(found.values()) if found else None
