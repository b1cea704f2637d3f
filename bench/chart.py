# SPDX-License-Identifier: GPL-3.0-or-later
"""Throughput, packet rate and round trip of each tunnel: as an image, and as text."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot
from matplotlib.patches import Patch

from bench.targets import OURS, PLACEMENTS, Data, median, names

PANELS = (
    ("tcp1", "TCP, one flow, Gbit/s", 1.0),
    ("packets", "64-byte packets delivered, thousand/s", 1e-3),
    ("rtt", "round trip, µs (less is better)", 1.0),
)
COLORS = {"placed": "#bdc3c7", "spread": "#7f8c8d", "wired": "#34495e"}
OUR_COLORS = {"placed": "#f5cba7", "spread": "#e59866", "wired": "#c0392b"}
WIDTH = 40  # characters of the longest bar


def values(data: Data, key: str, placement: str, factor: float) -> dict[str, float]:
    """Tunnel -> median. Without plain veth, which dwarfs every tunnel."""
    found = {}
    for name in names(data):
        value = median(data, "tunnels", key, name=name, placement=placement)
        if value is not None and not name.startswith("plain"):
            found[name] = value * factor
    return found


def image(data: Data, path: Path) -> None:
    """A PNG: a panel for each figure, in it a bar for each tunnel and placement."""
    shown = [name for name in names(data) if not name.startswith("plain")]
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(13, 0.7 * len(shown) + 1.5))
    height = 0.8 / len(PLACEMENTS)
    for axis, (key, label, factor) in zip(axes, PANELS, strict=True):
        for number, (placement, said) in enumerate(PLACEMENTS.items()):
            found = values(data, key, placement, factor)
            offset = (number - (len(PLACEMENTS) - 1) / 2) * height
            places = [shown.index(name) + offset for name in found]
            colors = [(OUR_COLORS if name == OURS else COLORS)[placement] for name in found]
            bars = axis.barh(places, list(found.values()), height, color=colors, label=said)
            axis.bar_label(bars, fmt="%.3g", fontsize=7, padding=2)
        axis.set_yticks(range(len(shown)), shown if axis is axes[0] else [""] * len(shown))
        axis.invert_yaxis()
        axis.set_title(label, fontsize=10)
        axis.margins(x=0.15)
    handles = [Patch(color=COLORS[placement]) for placement in PLACEMENTS]
    axes[-1].legend(handles, list(PLACEMENTS.values()), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def text(data: Data, placement: str) -> str:
    """The same of one placement, in characters."""
    lines: list[str] = []
    for key, label, factor in PANELS:
        found = values(data, key, placement, factor)
        if not found:
            continue
        longest, most = max(map(len, found)), max(found.values())
        lines += ["", label]
        for name, value in found.items():
            bar = "█" * max(1, round(WIDTH * value / most))
            lines.append(f"  {name:<{longest}}  {value:>8.3g}  {bar}")
    return "\n".join(lines[1:])
