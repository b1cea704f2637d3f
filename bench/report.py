# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/performance.md and its chart from a run's results:

python -m bench.report build/bench/results.json [--docs DIRECTORY]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench import breakdown, chart, prose, tables
from bench.results import ROOT
from bench.targets import PLACEMENTS, Data, all_targets

QUIET = 0.5  #: load average, at most, of a machine that does nothing else
HEADINGS = {
    "placed": "As the machine places it",
    "spread": "With the two hosts' receive work on different CPUs",
    "wired": "With a CPU for each host, and a wire between them",
}


def render(data: Data, docs: Path) -> None:
    """`performance.md` and `performance.png` in that directory."""
    docs.mkdir(parents=True, exist_ok=True)
    image = bool(data.get("tunnels"))
    if image:
        chart.image(data, docs / "performance.png")
    (docs / "performance.md").write_text(document(data, image), encoding="utf-8")


def document(data: Data, image: bool) -> str:
    """The whole of it; a part without results is left out."""
    blocks = [
        "# What brine performs",
        machine(data),
        prose.INTRODUCTION,
        failures(data),
        "## Targets",
        prose.TARGETS,
        targets(data),
        *tunnels(data, image),
        *kernels(data),
        *section("Primitives", prose.PRIMITIVES, tables.primitives(data)),
        *section("Peers", prose.SCALING, tables.scaling(data)),
        *section("A restart", prose.RESTART, tables.restart(data)),
        *profile(data),
        *section("Forged messages", prose.FORGED, tables.forged(data)),
        *section("A flood", prose.FLOOD, tables.flood(data)),
        "## What was measured when",
        measured(data),
        versions(data),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def section(heading: str, said: str, table: str) -> list[str]:
    return [f"## {heading}", said, table] if table else []


def machine(data: Data) -> str:
    known = data["machine"]
    busy = any(run["load"] > QUIET for run in data["measured"].values())
    return (
        f"Measured on {known['cpus']} × {known['processor']} ({known['architecture']},"
        f" {known['memory'] / 2**30:.0f} GiB), Linux {known['kernel']}."
    ) + (f"\n\n{prose.BUSY}" if busy else "")


def measured(data: Data) -> str:
    """Parts may be measured at different times."""
    lines = [
        f"| {part} | {run['when']} | {run['commit']} | {run['rounds']} | {run['load']:.1f} |"
        for part, run in data["measured"].items()
    ]
    heads = "| part | when | commit | rounds | load average before |"
    return "\n".join([heads, "|---|---|---|---|---|", *lines])


def versions(data: Data) -> str:
    known = ", ".join(f"{name} {value}" for name, value in data["machine"]["versions"].items())
    return f"Versions: {known}."


def failures(data: Data) -> str:
    if not data["failures"]:
        return ""
    lines = [
        f"- {one['section']}, {one['what']}: {one['error'].splitlines()[0] if one['error'] else ''}"
        for one in data["failures"]
    ]
    return "\n".join(["**Not everything could be measured:**", "", *lines])


def targets(data: Data) -> str:
    lines = [target.line() for target in all_targets(data)]
    return "\n".join(["| | wanted | measured | |", "|---|---|---|---|", *lines])


def tunnels(data: Data, image: bool) -> list[str]:
    if not image:
        return []
    blocks = [
        "## Beside other tunnels",
        prose.TUNNELS,
        "![Throughput, packet rate and round trip of each tunnel](performance.png)",
    ]
    for placement in PLACEMENTS:
        table = tables.tunnels(data, placement)
        if table:
            blocks += [
                f"### {HEADINGS[placement]}",
                table,
                "brine as a multiple of each:",
                tables.tunnel_ratios(data, placement),
                f"```\n{chart.text(data, placement)}\n```",
            ]
    return blocks


def kernels(data: Data) -> list[str]:
    said = section("Beside the kernel's own tunnels, emulated", prose.KERNELS, tables.kernels(data))
    return [*said, tables.kernel_ratios(data)] if said else []


def profile(data: Data) -> list[str]:
    if not data.get("profile"):
        return []
    return [
        "## Where the time goes",
        prose.STEPS,
        breakdown.steps(data),
        prose.PARTS,
        breakdown.parts(data),
        prose.PATHS,
        breakdown.paths(data),
        breakdown.gro(data),
        breakdown.layers(data),
        *([prose.SAMPLES, table] if (table := breakdown.samples(data)) else []),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    render(json.loads(arguments.results.read_text(encoding="utf-8")), arguments.docs)


if __name__ == "__main__":
    main()
