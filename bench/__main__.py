# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the comparison: python -m bench [--rounds N] [--only NAME ...] [--results FILE]."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import programs, report
from bench.measure import measure
from bench.rig import rig
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
SOURCE = Path(__file__).parent


def build_traffic(work: Path) -> str:
    program = work / "traffic"
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-o", str(program), str(SOURCE / "traffic.c")], check=True
    )
    return str(program)


def machine(root: Path) -> dict[str, object]:
    """What the figures are of."""
    model = next(
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    )
    return {
        "processor": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "versions": programs.versions(root),
    }


def one(kind: type[Tunnel], root: Path, run: Path, traffic: str, spread: bool) -> dict[str, float]:
    """A fresh rig, the tunnel on it, its figures."""
    name = f"{os.getpid():x}"
    for old in run.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    with rig(name, run.parent, spread=spread) as made:
        tunnel = kind(made, root)
        try:
            tunnel.start()
            return dataclasses.asdict(measure(made, traffic, tunnel.map_memory()))
        finally:
            tunnel.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--results", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: it makes network namespaces")
    root = programs.root()
    wanted = [
        kind
        for kind in TUNNELS
        if not arguments.only or any(part in kind.name for part in arguments.only)
    ]
    results: dict[str, object] = {"machine": machine(root), "rounds": []}
    failures = 0
    with tempfile.TemporaryDirectory(prefix="brine-bench-") as directory:
        work, run = Path(directory), Path(directory, "run")
        run.mkdir()
        traffic = build_traffic(work)
        with programs.mounted(root, run):
            for number in range(arguments.rounds):
                for placement in ("placed", "spread"):
                    for kind in wanted:
                        label = f"round {number + 1}/{arguments.rounds}, {placement}: {kind.name}"
                        print(f"bench: {label}", flush=True)
                        try:
                            figures = one(kind, root, run, traffic, placement == "spread")
                        except Exception as error:  # the others are still worth measuring
                            failures += 1
                            logs = "".join(
                                path.read_text(errors="replace")[-800:]
                                for path in work.glob("*.log")
                            )
                            print(f"bench: {label} failed: {error}\n{logs}", file=sys.stderr)
                            continue
                        rounds = results["rounds"]
                        assert isinstance(rounds, list)
                        rounds.append(
                            {"round": number, "placement": placement, "name": kind.name, **figures}
                        )
                        print("  " + report.line(figures), flush=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.table(results)
    (arguments.results / "table.md").write_text(text)
    print(text)
    report.chart(results, arguments.results / "chart.png")
    print(f"bench: {arguments.results}/results.json, table.md, chart.png")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
