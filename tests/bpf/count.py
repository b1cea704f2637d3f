# SPDX-License-Identifier: GPL-3.0-or-later
"""How large each program is, as this kernel loaded it: ``make count``, which fails above a limit.

The verifier's steps are what a change most easily multiplies, and what an older kernel
needs more of.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from brine.libbpf import ProgramSize
from tests.bpf.loaded import Loaded, build

#: Instructions at most, somewhat above what there are: growth shall be noticed, and meant.
LIMITS = {"seal": 11_500, "open": 25_000, "control": 18_000, "punt": 1_500}
#: Steps at most: the verifier gives up at a million, and older ones take more of them.
VERIFIED_LIMIT = 100_000


def sizes(loaded: Loaded, names: Iterable[str] = LIMITS) -> dict[str, ProgramSize]:
    """By program."""
    return {name: loaded.program(name).size() for name in names}


def table(found: dict[str, ProgramSize]) -> str:
    """For people."""
    heads = f"{'program':<24}{'instructions':>14}{'at most':>9}"
    lines = [f"{heads}{'machine bytes':>15}{'verified':>10}"]
    for name, size in found.items():
        counted = f"{name:<24}{size.instructions:>14}{LIMITS.get(name, ''):>9}"
        lines.append(f"{counted}{size.machine_bytes:>15}{size.verified:>10}")
    return "\n".join(lines)


def over(found: dict[str, ProgramSize]) -> list[str]:
    """What is above its limit."""
    return [
        name
        for name, size in found.items()
        if name in LIMITS and (size.instructions > LIMITS[name] or size.verified > VERIFIED_LIMIT)
    ]


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        loaded = Loaded(build(Path(directory)))
        try:
            found = sizes(loaded, loaded.program_names())
        finally:
            loaded.close()
    print(table(found))
    if grown := over(found):
        print(f"error: above its limit in tests/bpf/count.py: {', '.join(grown)}", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
