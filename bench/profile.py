# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time of a sealed packet goes: python -m bench profile.

Three looks, each of raw entries with `kind`:

    step      `seal` and `open` by themselves, whole and without cryptography, at sizes 0, 64 and
              1420 (steps.py)
    path      one TCP flow over plain veth with and without offload, brine, and brine without
              cryptography, taking turns: Gbit/s, CPU s per GB; segments per packet that the
              receiving stack got, which is what GRO has put together on the way in
    samples   of brine's TCP flow, where perf finds the CPUs (samples.py); none without perf

perf's hardware counters and `bpftool prog profile` need counters that virtual machines mostly
do not have; none of this does.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import samples
from bench.measure import reachable, tcp
from bench.results import Results, Settings
from bench.rig import Host, Rig, rig
from bench.steps import VARIANTS, Steps
from bench.tunnels.base import Tunnel
from bench.tunnels.brine import Brine
from bench.tunnels.plain import Plain, PlainSegmented

SECTION = "profile"
#: IpExt's counters of received segments by ECN codepoint: each packet counts all it was made of
_SEGMENTS = ("InNoECTPkts", "InECT0Pkts", "InECT1Pkts", "InCEPkts")


class WithoutCrypto(Brine):
    """What travels is not sealed; everything else is brine."""

    name = "brine, no crypto"
    source = VARIANTS["no crypto"]


PATHS: tuple[type[Tunnel], ...] = (Plain, PlainSegmented, WithoutCrypto, Brine)


def counters(host: Host) -> dict[str, int]:
    """Of IPv4 in the host's namespace: Ip and IpExt of /proc/net."""
    lines = [
        line.split()
        for name in ("snmp", "netstat")
        for line in host.run("cat", f"/proc/net/{name}").splitlines()
        if line.startswith(("Ip:", "IpExt:"))
    ]
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        found.update(zip(names[1:], map(int, values[1:]), strict=True))
    return found


def segments_per_packet(host: Host, call: Callable[[], object]) -> float:
    """Wire packets in each packet that the host's IP layer received while `call` ran."""
    before = counters(host)
    call()
    after = counters(host)
    packets = after["InReceives"] - before["InReceives"]
    return sum(after[name] - before[name] for name in _SEGMENTS) / packets


def path(kind: type[Tunnel], work: Path, seconds: float, perf: bool) -> list[dict[str, object]]:
    """Entries of one tunnel: `path`, and `samples` if asked for."""
    with rig(f"{os.getpid():x}", work) as made:
        tunnel = kind(made, work)
        try:
            tunnel.start()
            reachable(made)
            return _measured(made, kind, work, seconds, perf)
        finally:
            tunnel.stop()


def _measured(
    made: Rig, kind: type[Tunnel], work: Path, seconds: float, perf: bool
) -> list[dict[str, object]]:
    rates: list[tuple[float, float]] = []

    def flow() -> None:
        rates.append(tcp(made, 1, seconds))

    segments = segments_per_packet(made.b, flow)
    entries: list[dict[str, object]] = [
        {
            "kind": "path",
            "name": kind.name,
            "tcp": rates[0][0],
            "cpu": rates[0][1],
            "segments": segments,
        }
    ]
    if perf:
        entries.append({"kind": "samples", "shares": samples.shares(work, flow)})
    return entries


def run(settings: Settings, results: Results) -> None:
    """All rounds."""
    results.begin(SECTION)
    perf = samples.available()
    if not perf:
        results.fail(SECTION, "samples", "this machine has no perf (Debian: linux-perf)")
    with (
        tempfile.TemporaryDirectory(prefix="brine-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        top = Path(name)
        steps = Steps(top / "objects", stack)
        for number in range(settings.rounds):
            print(f"bench: profile: round {number + 1}/{settings.rounds}", flush=True)
            for found in steps.round():
                results.add(SECTION, {"round": number, "kind": "step", **found})
            for kind in PATHS:
                with tempfile.TemporaryDirectory(dir=top) as work:
                    sampled = perf and kind is Brine
                    for entry in path(kind, Path(work), settings.seconds, sampled):
                        results.add(SECTION, {"round": number, **entry})
