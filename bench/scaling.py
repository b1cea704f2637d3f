# SPDX-License-Identifier: GPL-3.0-or-later
"""What peers cost a host that has 1, 10, 1000, 10000 of them: python -m bench scaling.

Pairs of hosts, one for each size, stand side by side and take turns within a round. Of a pair's
peers one is the other host; the rest are in rosters and maps, but do not exist. An entry is one
pair in one round:

    peers             how many each host has
    tcp, cpu          Gbit/s of one TCP flow between the two; CPU s per GB
    daemon, maps      bytes: brined's resident memory, what the kernel counts for the maps
    idle              CPU share of brined while nothing happens, 0 to 1
    seal, open        ns of the program for a packet of 1420 bytes of the one peer again and again
    seal_any, open_any      the same, every packet another peer's

The last four by BPF_PROG_TEST_RUN on one host's own maps, in which every peer has an association
by then; brined does not run meanwhile.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lookups import Lookups
from bench.measure import reachable, tcp
from bench.results import Results, Settings
from bench.rig import Rig, rig
from bench.tunnels.brine import Brine, BrineHost, entry
from brine import keys

SECTION = "scaling"
PHANTOM_UNDERLAY = ipaddress.IPv4Address("100.64.0.0")
PHANTOM_INNER = ipaddress.IPv4Address("198.19.0.0")
IDLE_SECONDS = 2  #: times `seconds`: the daemon's timers tick once a second


def phantoms(count: int) -> tuple[dict[str, Any], ...]:
    """Peers that nobody is: 65535 at most."""
    if not 0 <= count < 1 << 16:
        raise ValueError(f"{count} peers do not fit the bench's addresses")
    return tuple(
        entry(
            f"phantom{number}",
            keys.public_key(keys.generate_private()),
            str(PHANTOM_UNDERLAY + number),
            str(PHANTOM_INNER + number),
        )
        for number in range(1, count + 1)
    )


@dataclass
class Pair:
    """Two hosts with so many peers each, and their tunnel."""

    peers: int
    rig: Rig
    tunnel: Brine

    @property
    def side(self) -> BrineHost:
        """The host that is looked at."""
        return self.tunnel.sides[0]


@contextlib.contextmanager
def pair(count: int, top: Path) -> Iterator[Pair]:
    work = top / f"n{count}"
    work.mkdir()
    with rig(f"{os.getpid():x}-{count}", work) as made:
        tunnel = Brine(made, top)
        tunnel.max_peers = count + 1
        tunnel.others = phantoms(count - 1)
        try:
            tunnel.start()
            reachable(made)
            yield Pair(count, made, tunnel)
        finally:
            tunnel.stop()


def resident(pid: int) -> int:
    """Bytes of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def process_seconds(pid: int) -> float:
    """CPU seconds of a process so far, its threads included."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    user, system = text.rpartition(")")[2].split()[11:13]  # behind the name, which may hold blanks
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def idle_share(pid: int, seconds: float) -> float:
    """CPU that the process uses, as a share of one core."""
    before, begin = process_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (process_seconds(pid) - before) / (time.monotonic() - begin)


def live(one: Pair, seconds: float) -> dict[str, float]:
    """What needs the daemon."""
    rate, cpu = tcp(one.rig, 1, seconds)
    return {
        "tcp": rate,
        "cpu": cpu,
        "daemon": resident(one.side.pid),
        "maps": one.side.map_memory(),
        "idle": idle_share(one.side.pid, IDLE_SECONDS * seconds),
    }


def run(settings: Settings, results: Results) -> None:
    """All rounds."""
    results.begin(SECTION)
    with (
        tempfile.TemporaryDirectory(prefix="brine-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        pairs = []
        for count in settings.sizes:
            print(f"bench: scaling: a pair with {count} peers each", flush=True)
            pairs.append(stack.enter_context(pair(count, Path(name))))
        found: dict[tuple[int, int], dict[str, float]] = {}
        for number in range(settings.rounds):
            for one in pairs:
                print(f"bench: scaling: round {number + 1}, {one.peers} peers", flush=True)
                found[number, one.peers] = live(one, settings.seconds)
        for one in pairs:
            one.side.stop()
        hosts = [stack.enter_context(contextlib.closing(Lookups(one.side))) for one in pairs]
        for number in range(settings.rounds):
            for one, host in zip(pairs, hosts, strict=True):
                figures = {**found[number, one.peers], **host.measure()}
                results.add(SECTION, {"round": number, "peers": one.peers, **figures})
