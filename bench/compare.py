# SPDX-License-Identifier: GPL-3.0-or-later
"""brine beside the tunnels a user could pick instead, over one veth pair.

An entry is one tunnel in one round: its name, the placement, and the fields of measure.Figures.
Placements: rig.py. Each tunnel gets a fresh rig every time, and
the tunnels take turns within a round.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench import programs
from bench.measure import Figures, measure
from bench.results import Results, Settings
from bench.rig import PLACEMENTS, rig
from bench.tunnels.base import Tunnel
from bench.tunnels.brine import Brine
from bench.tunnels.fastd import Fastd
from bench.tunnels.nebula import Nebula
from bench.tunnels.openvpn import OpenVpn
from bench.tunnels.plain import Plain, PlainSegmented
from bench.tunnels.quicktun import QuickTun
from bench.tunnels.strongswan import StrongSwan
from bench.tunnels.tinc import Tinc
from bench.tunnels.wireguard_go import WireGuardGo

SECTION = "tunnels"
TUNNELS: tuple[type[Tunnel], ...] = (
    Plain,
    PlainSegmented,
    Brine,
    WireGuardGo,
    Fastd,
    QuickTun,
    OpenVpn,
    Nebula,
    Tinc,
    StrongSwan,
)


def build_traffic(work: Path) -> str:
    """Compile traffic.c; the program's path."""
    program = work / "traffic"
    source = Path(__file__).with_name("traffic.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(source)], check=True)
    return str(program)


def one(
    kind: type[Tunnel], root: Path, run: Path, traffic: str, seconds: float, placement: str
) -> Figures:
    """A fresh rig, the tunnel on it, its figures."""
    for old in run.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for log in run.parent.glob("*.log"):
        log.unlink()
    with rig(f"{os.getpid():x}", run.parent, placement) as made:
        tunnel = kind(made, root)
        try:
            tunnel.start()
            return measure(made, traffic, tunnel.map_memory(), seconds)
        finally:
            tunnel.stop()


def run(settings: Settings, results: Results) -> None:
    """All rounds."""
    results.begin(SECTION)
    root = programs.root()
    wanted = [
        kind
        for kind in TUNNELS
        if not settings.only or any(part in kind.name for part in settings.only)
    ]
    with tempfile.TemporaryDirectory(prefix="brine-bench-") as directory:
        work, inside = Path(directory), Path(directory, "run")
        inside.mkdir()
        traffic = build_traffic(work)
        with programs.mounted(root, inside):
            for number in range(settings.rounds):
                for placement in PLACEMENTS:
                    for kind in wanted:
                        if placement not in kind.placements:
                            continue
                        what = f"round {number + 1}/{settings.rounds}, {placement}: {kind.name}"
                        print(f"bench: {what}", flush=True)
                        try:
                            figures = one(
                                *(kind, root, inside, traffic),
                                settings.seconds,
                                placement,
                            )
                        except Exception as error:  # the others are still worth measuring
                            results.fail(SECTION, what, f"{error}\n{logs(work)}")
                            continue
                        entry = {"round": number, "placement": placement, "name": kind.name}
                        results.add(SECTION, {**entry, **dataclasses.asdict(figures)})


def logs(work: Path) -> str:
    """The ends of what the hosts' processes printed."""
    return "".join(path.read_text(errors="replace")[-800:] for path in work.glob("*.log"))
