# SPDX-License-Identifier: GPL-3.0-or-later
"""The profile's tables: a packet's time taken apart by differences within each round."""

from __future__ import annotations

from collections.abc import Mapping

from bench.results import Spread
from bench.tables import cell, markdown
from bench.targets import Data, by_round, spread_of

SECTION = "profile"


def minus(whole: Mapping[int, float], part: Mapping[int, float]) -> dict[int, float]:
    """Round by round."""
    return {number: whole[number] - part[number] for number in whole if number in part}


def step(data: Data, program: str, variant: str, size: int) -> dict[int, float]:
    return by_round(data, SECTION, "ns", kind="step", program=program, variant=variant, size=size)


def steps(data: Data) -> str:
    """`seal` and `open` by variant and size."""
    found = [
        (program, variant, size)
        for entry in data.get(SECTION, [])
        if entry["kind"] == "step"
        for program, variant, size in [(entry["program"], entry["variant"], entry["size"])]
    ]
    sizes = sorted({size for *_, size in found})
    made = [
        [
            f"{program}, {variant}",
            *(cell(spread_of(step(data, program, variant, size)), 0) for size in sizes),
        ]
        for program, variant in sorted(
            {one[:2] for one in found}, key=lambda one: (one[0], found.index((*one, 0)))
        )
    ]
    return markdown(["ns", *(f"{size} bytes" for size in sizes)], made)


def parts(data: Data) -> str:
    """Of one packet of 1420 bytes: ns, and share of the whole."""
    made = []
    for program, cuts in (
        (
            "seal",
            (
                ("parsing, look-ups, counter, outer headers", ("no crypto", 0), None),
                ("copies of the text", ("no crypto", 1420), ("no crypto", 0)),
                ("XSalsa20", ("no mac", 1420), ("no crypto", 1420)),
                ("Poly1305", ("whole", 1420), ("no mac", 1420)),
            ),
        ),
        (
            "open",
            (
                ("parsing, look-ups, replay window", ("no crypto", 0), None),
                (
                    "copies of the text, inner header and source, delivery",
                    ("no crypto", 1420),
                    ("no crypto", 0),
                ),
                ("XSalsa20 and Poly1305", ("whole", 1420), ("no crypto", 1420)),
            ),
        ),
    ):
        whole = step(data, program, "whole", 1420)
        for what, more, less in cuts:
            found = step(data, program, *more)
            if less is not None:
                found = minus(found, step(data, program, *less))
            shares = {n: 100 * found[n] / whole[n] for n in found if n in whole}
            if found:
                made.append([program, what, cell(spread_of(found), 0), cell(spread_of(shares), 0)])
    return markdown(["", "part", "ns", "% of the program"], made)


def path(data: Data, key: str, name: str) -> dict[int, float]:
    return by_round(data, SECTION, key, kind="path", name=name)


def paths(data: Data) -> str:
    """One TCP flow, with what GRO made of it."""
    shown = dict.fromkeys(
        entry["name"] for entry in data.get(SECTION, []) if entry["kind"] == "path"
    )
    made = [
        [
            name,
            cell(spread_of(path(data, "tcp", name)), 2),
            cell(spread_of(path(data, "cpu", name)), 1),
            cell(spread_of(path(data, "segments", name)), 1),
        ]
        for name in shown
    ]
    return markdown(
        ["", "TCP 1 flow, Gbit/s", "CPU s per GB", "segments in each packet received"], made
    )


def layers(data: Data) -> str:
    """brine's CPU time for a GB, from the stack up."""
    whole = path(data, "cpu", "brine")
    bare, segmented = path(data, "cpu", "plain veth"), path(data, "cpu", "plain veth, no offload")
    uncrypted = path(data, "cpu", "brine, no crypto")
    made = []
    for what, found in (
        ("iperf3 and the stack, with offload", bare),
        ("the same for single packets", minus(segmented, bare)),
        ("programs without cryptography, TC, XDP, brine0", minus(uncrypted, segmented)),
        ("cryptography", minus(whole, uncrypted)),
    ):
        shares = {n: 100 * found[n] / whole[n] for n in found if n in whole}
        if shares:
            made.append([what, cell(spread_of(found), 1), cell(spread_of(shares), 0)])
    return markdown(["", "CPU s per GB", "% of the whole"], made)


def samples(data: Data) -> str:
    """perf's shares."""
    rounds = [entry["shares"] for entry in data.get(SECTION, []) if entry["kind"] == "samples"]
    kinds = dict.fromkeys(kind for shares in rounds for kind in shares)
    spreads = {kind: Spread.of(100 * shares.get(kind, 0.0) for shares in rounds) for kind in kinds}
    ordered = sorted(spreads.items(), key=lambda item: -item[1].median)
    return markdown(
        ["", "% of busy CPU time"], [[kind, spread.text(1)] for kind, spread in ordered]
    )


def gro(data: Data) -> str:
    """What was found of GRO on brine0, in a sentence."""
    found = spread_of(path(data, "segments", "brine"))
    if found is None:
        return ""
    count = f"{found.text(1)} segments"
    if found.median > 1.5:
        return f"GRO does aggregate on brine0 on the way in: the stack received {count} a packet."
    return f"GRO does not aggregate on brine0 on the way in: the stack received {count} a packet."
