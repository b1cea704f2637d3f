# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as a line, a table and a chart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import pyplot

COLUMNS = (
    ("tcp1", "TCP 1 flow, Gbit/s", 1.0, 2),
    ("tcp2", "TCP 2 flows, Gbit/s", 1.0, 2),
    ("packets", "64-byte packets, k/s", 1e-3, 0),
    ("rtt", "round trip, µs", 1.0, 0),
    ("cpu", "CPU s per GB", 1.0, 1),
    ("memory", "resident, MB", 1e-6, 0),
    ("map_memory", "maps, MB", 1e-6, 1),
)
HEADINGS = {
    "placed": "As the machine places it",
    "spread": "The two hosts' receive work on different CPUs",
}
REFERENCE = "brine"


def line(figures: Mapping[str, float]) -> str:
    """One round, for the progress."""
    return "  ".join(
        f"{label} {figures[key] * factor:.{digits}f}" for key, label, factor, digits in COLUMNS
    )


def grouped(results: Mapping[str, Any], placement: str) -> dict[str, dict[str, list[float]]]:
    """Name -> figure -> values of all rounds, in the order of the run."""
    found: dict[str, dict[str, list[float]]] = {}
    for entry in results["rounds"]:
        if entry["placement"] == placement:
            figures = found.setdefault(entry["name"], {})
            for key, *_ in COLUMNS:
                figures.setdefault(key, []).append(entry[key])
    return found


def cell(values: list[float], factor: float, digits: int) -> str:
    """Median (min–max)."""
    low, middle, high = (
        f"{number * factor:.{digits}f}"
        for number in (min(values), statistics.median(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


def table(results: Mapping[str, Any]) -> str:
    """Markdown: medians, least and most, and brine's ratio to each."""
    machine = results["machine"]
    lines = [
        f"{machine['cpus']} × {machine['processor']}, Linux {machine['kernel']}; median (min–max)."
    ]
    for placement, heading in HEADINGS.items():
        found = grouped(results, placement)
        if not found:
            continue
        labels = [label for _, label, *_ in COLUMNS]
        lines += ["", f"**{heading}**", ""]
        lines += ["| | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
        for name, figures in found.items():
            cells = [cell(figures[key], factor, digits) for key, _, factor, digits in COLUMNS]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        if REFERENCE in found:
            lines += ["", "brine as a multiple of each:", ""]
            keys = [key for key, *_ in COLUMNS[:5]]
            lines += ["| | " + " | ".join(labels[:5]) + " |", "|---" * 6 + "|"]
            for name, figures in found.items():
                if name == REFERENCE:
                    continue
                ratios = [
                    statistics.median(found[REFERENCE][key]) / statistics.median(figures[key])
                    for key in keys
                ]
                lines.append(f"| {name} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}.", ""])


def chart(results: Mapping[str, Any], path: Path) -> None:
    """Throughput, packet rate and round trip, a bar a tunnel."""
    found = grouped(results, "spread") or grouped(results, "placed")
    names = [name for name in found if not name.startswith("plain")]
    panels = [column for column in COLUMNS if column[0] in ("tcp1", "packets", "rtt")]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(12, 0.45 * len(names) + 1.5))
    for axis, (key, label, factor, _) in zip(axes, panels, strict=True):
        values = [statistics.median(found[name][key]) * factor for name in names]
        colors = ["#c0392b" if name == REFERENCE else "#7f8c8d" for name in names]
        axis.barh(names, values, color=colors)
        axis.invert_yaxis()
        axis.set_title(label, fontsize=10)
        axis.bar_label(axis.containers[0], fmt="%.3g", fontsize=8, padding=2)
        axis.margins(x=0.15)
        if axis is not axes[0]:
            axis.set_yticklabels([])
    figure.tight_layout()
    figure.savefig(path, dpi=120)
