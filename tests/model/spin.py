# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a model's verifier with SPIN and runs it within bounds of memory, depth and time."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent
MEMORY_MB = 2000
DEPTH = 200_000  #: steps of one run; the longest that any model has is far below
SECONDS = 600

_NUMBERED = re.compile(r"^#define ([A-Z_]+) (\d+)\s+/\*", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a verifier found: the violated assertion, if any, and how much it saw."""

    violation: str | None
    states: int
    complete: bool  #: nothing was left out for want of memory or depth
    output: str


def variants(model: str) -> dict[str, int]:
    """The deliberately broken variants that a model names, with their numbers."""
    text = (MODELS / f"{model}.pml").read_text()
    block = text.split("/* Deliberately broken variants", 1)[1].split("byte variant", 1)[0]
    return {name: int(number) for name, number in _NUMBERED.findall(block)}


def build(model: str, defines: dict[str, int], directory: Path) -> Path:
    """The verifier of `model`, built in `directory`.

    :raises subprocess.CalledProcessError: if SPIN or gcc refuses it.
    """
    flags = [f"-D{name}={value}" for name, value in defines.items()]
    subprocess.run(
        ["spin", "-a", *flags, MODELS / f"{model}.pml"],
        cwd=directory,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    # COLLAPSE stores states small; SAFETY: no cycles are looked for, since every
    # run ends (see the models' heads).
    options = ["-O1", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}"]
    verifier = directory / "pan"
    subprocess.run(
        ["gcc", *options, "-o", verifier, "pan.c"], cwd=directory, check=True, capture_output=True
    )
    return verifier


def run(verifier: Path, settings: dict[str, int]) -> Outcome:
    """Everything that the model can do under these settings, or up to the first violation."""
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    result = subprocess.run(
        [verifier, f"-m{DEPTH}", "-w22", "-n"],
        cwd=verifier.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    output = result.stdout
    found = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", output, re.MULTILINE)
    states = re.search(r"^\s*(\d+) states, stored", output, re.MULTILINE)
    errors = re.search(r"errors: (\d+)", output)
    if states is None or errors is None:
        raise RuntimeError(f"the verifier did not finish: {output}")
    # The verifier also says that a search was not completed where an error ended it.
    broken = "Search not completed" in output or "max search depth too small" in output
    return Outcome(
        violation=found.group(1) if found and int(errors.group(1)) else None,
        states=int(states.group(1)),
        complete=not broken,
        output=output,
    )
