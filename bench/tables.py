# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's tables, in Markdown. A table of which nothing was measured is empty."""

from __future__ import annotations

from collections.abc import Iterable

from bench.results import Spread
from bench.targets import OURS, Data, beside, by_round, names, ratios, spread_of

#: key, heading, factor, digits
TUNNEL_COLUMNS = (
    ("tcp1", "TCP 1 flow, Gbit/s", 1.0, 2),
    ("tcp2", "TCP 2 flows, Gbit/s", 1.0, 2),
    ("packets", "64-byte packets, k/s", 1e-3, 0),
    ("rtt", "round trip, µs", 1.0, 0),
    ("cpu", "CPU s per GB", 1.0, 1),
    ("memory", "processes, MB", 1e-6, 0),
    ("map_memory", "maps, MB", 1e-6, 1),
)
SCALING_COLUMNS = (
    ("tcp", "TCP 1 flow, Gbit/s", 1.0, 2),
    ("daemon", "daemon, MB", 1e-6, 0),
    ("maps", "maps, MB", 1e-6, 1),
    ("idle", "daemon idle, % of a core", 100.0, 2),
    ("seal", "seal, one peer, µs", 1e-3, 2),
    ("seal_any", "each packet another, µs", 1e-3, 2),
    ("open", "open, one peer, µs", 1e-3, 2),
    ("open_any", "each packet another, µs", 1e-3, 2),
)
RESTART_COLUMNS = (
    ("data_path", "data path, s", 1.0, 1),
    ("daemon", "daemon ready, s", 1.0, 1),
    ("all", "all associations, s", 1.0, 1),
    ("daemon_cpu", "CPU of the daemon, s", 1.0, 1),
    ("responders_cpu", "of all peers, s", 1.0, 1),
    ("daemon_memory", "daemon, MB", 1e-6, 0),
    ("maps", "maps, MB", 1e-6, 1),
    ("idle", "idle after, % of a core", 100.0, 2),
)
KERNEL_COLUMNS = (
    ("tcp", "TCP 6.1 to 6.12, Mbit/s", 1e3, 0),
    ("back", "and back, Mbit/s", 1e3, 0),
    ("packets", "64-byte packets, k/s", 1e-3, 1),
    ("rtt", "round trip, µs", 1.0, 0),
)
Columns = tuple[tuple[str, str, float, int], ...]


def markdown(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = [f"| {' | '.join(row)} |" for row in rows]
    if not body:
        return ""
    headings = list(heads)
    return "\n".join([f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *body])


def cell(spread: Spread | None, digits: int, factor: float = 1.0) -> str:
    return "–" if spread is None else spread.text(digits, factor)


def rows(data: Data, section: str, columns: Columns, key: str, **where: object) -> list[list[str]]:
    """One for each value of `key`, in the order of the run."""
    wanted = dict.fromkeys(
        entry[key]
        for entry in data.get(section, [])
        if all(entry.get(name) == value for name, value in where.items())
    )
    made = []
    for value in wanted:
        cells = [str(value)]
        for column, _, factor, digits in columns:
            found = by_round(data, section, column, **{key: value}, **where)
            cells.append(cell(spread_of(found), digits, factor))
        made.append(cells)
    return made


def heads(first: str, columns: Columns) -> list[str]:
    return [first, *(heading for _, heading, _, _ in columns)]


def tunnels(data: Data, placement: str) -> str:
    made = rows(data, "tunnels", TUNNEL_COLUMNS, "name", placement=placement)
    return markdown(heads("", TUNNEL_COLUMNS), made)


def tunnel_ratios(data: Data, placement: str) -> str:
    """brine as a multiple of each other tunnel."""
    columns = TUNNEL_COLUMNS[:5]
    found = {key: beside(data, key, placement) for key, *_ in columns}
    made = [
        [name, *(cell(found[key].get(name), 2) for key, *_ in columns)]
        for name in names(data)
        if name != OURS and any(name in found[key] for key, *_ in columns)
    ]
    return markdown(heads("", columns), made)


def primitives(data: Data) -> str:
    made = []
    for name in dict.fromkeys(entry["name"] for entry in data.get("primitives", [])):
        ours = by_round(data, "primitives", "bpf_ns", name=name)
        theirs = by_round(data, "primitives", "libsodium_ns", name=name)
        least = min(ours.values()) / min(theirs.values())
        made.append(
            [
                name,
                cell(spread_of(ours), 3, 1e-3),
                cell(spread_of(theirs), 3, 1e-3),
                cell(ratios(ours, theirs), 2),
                f"{least:.2f}",
            ]
        )
    return markdown(["", "BPF, µs", "libsodium, µs", "ratio", "of the least"], made)


def forged(data: Data) -> str:
    made = []
    for name in dict.fromkeys(entry["name"] for entry in data.get("forged", [])):
        found = spread_of(by_round(data, "forged", "ns", name=name))
        assert found is not None
        made.append([name, found.text(0), f"{10**9 // max(int(found.median), 1):,}"])
    return markdown(["dropped in XDP", "ns", "a second and CPU"], made)


def flood(data: Data) -> str:
    made = []
    found = data.get("flood", [])
    for rate in dict.fromkeys(entry["rate"] for entry in found):
        alone = by_round(data, "flood", "tcp", rate=rate, condition="elsewhere")
        for condition in dict.fromkeys(entry["condition"] for entry in found):
            how = {"rate": rate, "condition": condition}
            tcp = by_round(data, "flood", "tcp", **how)
            made.append(
                [
                    f"{rate:,}",
                    condition,
                    cell(spread_of(by_round(data, "flood", "sent", **how)), 0),
                    cell(spread_of(tcp), 2),
                    cell(ratios(tcp, alone), 2),
                    cell(spread_of(by_round(data, "flood", "daemon", **how)), 0, 100),
                ]
            )
    heads = ["a second", "", "left", "TCP, Gbit/s", "of elsewhere", "brined, % of a CPU"]
    return markdown(heads, made)


def scaling(data: Data) -> str:
    return markdown(
        heads("peers", SCALING_COLUMNS), rows(data, "scaling", SCALING_COLUMNS, "peers")
    )


def restart(data: Data) -> str:
    return markdown(
        heads("peers", RESTART_COLUMNS), rows(data, "restart", RESTART_COLUMNS, "peers")
    )


def kernels(data: Data) -> str:
    return markdown(heads("", KERNEL_COLUMNS), rows(data, "kernels", KERNEL_COLUMNS, "name"))


def kernel_ratios(data: Data) -> str:
    """brine as a multiple of each."""
    made = []
    for name in dict.fromkeys(entry["name"] for entry in data.get("kernels", [])):
        if name == OURS:
            continue
        cells = [
            cell(
                ratios(
                    by_round(data, "kernels", key, name=OURS),
                    by_round(data, "kernels", key, name=name),
                ),
                2,
            )
            for key, *_ in KERNEL_COLUMNS
        ]
        made.append([name, *cells])
    heads_ = ["brine, as a multiple of", "TCP there", "TCP back", "packets", "round trip"]
    return markdown(heads_, made)
