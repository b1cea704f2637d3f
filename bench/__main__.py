# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, keep the raw values, and write docs/performance.md from them: python -m bench.

Parts: tunnels (compare.py), primitives, forged, flood, scaling, restart, profile; and kernels,
which wants virtual machines (make bench-vm), and is left out unless it is named. Those that are
left out keep what the results' file has of them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench import (
    compare,
    flood,
    forged,
    kernels,
    primitives,
    profile,
    programs,
    report,
    restart,
    scaling,
)
from bench.results import ROOT, Results, Settings

PARTS: dict[str, Callable[[Settings, Results], None]] = {
    "tunnels": compare.run,
    "primitives": primitives.run,
    "forged": forged.run,
    "flood": flood.run,
    "scaling": scaling.run,
    "restart": restart.run,
    "profile": profile.run,
    "kernels": kernels.run,
}
USUAL = tuple(name for name in PARTS if name != "kernels")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", help=f"of: {', '.join(PARTS)}; all but kernels unless given"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of one throughput measurement")
    parser.add_argument("--only", nargs="*", default=[], help="parts of tunnels' names")
    parser.add_argument("--sizes", nargs="*", type=int, default=[1, 10, 1000, 10000])
    parser.add_argument("--results", type=Path, default=Path("build/bench/results.json"))
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the report goes")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("needs root: it makes network namespaces")
    settings = Settings(
        arguments.rounds, arguments.seconds, tuple(arguments.sizes), tuple(arguments.only)
    )
    results = Results(arguments.results, settings, programs.versions(programs.root()))
    for name in arguments.parts or USUAL:
        try:
            PARTS[name](settings, results)
        except Exception as error:  # the other parts are still worth measuring
            results.fail(name, "this part", error)
    report.render(results.data, arguments.docs)
    print(f"bench: {arguments.results}, {arguments.docs}/performance.md")
    return 1 if results.data["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
