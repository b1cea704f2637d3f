# SPDX-License-Identifier: GPL-3.0-or-later
"""How large each program is, as this kernel loaded it: ``make -C bpf count``.

The verifier's steps are what a change most easily multiplies, and what an older kernel
needs more of.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from brine.libbpf import ProgramSize
from tests.bpf.loaded import Loaded, build

PROGRAMS = ("seal", "open", "control")


def sizes(loaded: Loaded, names: tuple[str, ...] = PROGRAMS) -> dict[str, ProgramSize]:
    """By program."""
    return {name: loaded.program(name).size() for name in names}


def table(found: dict[str, ProgramSize]) -> str:
    """For people."""
    lines = [f"{'program':<24}{'instructions':>14}{'machine bytes':>15}{'verified':>10}"]
    for name, size in found.items():
        lines.append(
            f"{name:<24}{size.instructions:>14}{size.machine_bytes:>15}{size.verified:>10}"
        )
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        loaded = Loaded(build(Path(directory)))
        try:
            print(table(sizes(loaded, tuple(loaded.program_names()))))
        finally:
            loaded.close()


if __name__ == "__main__":
    main()
