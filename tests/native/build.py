# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a program of this directory."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BPF = HERE.parents[1] / "bpf"


def build(source: str, directory: Path, flags: Sequence[str], bpf: Path = BPF) -> Path:
    """`source` of this directory with the headers of `bpf`, warnings being errors."""
    target = directory / Path(source).stem
    include = (f"-I{HERE / 'include'}", f"-I{bpf}")
    warnings = ("-Wall", "-Wextra", "-Werror")
    done = subprocess.run(
        ["clang-19", "-std=gnu11", *warnings, *flags, *include, HERE / source, "-o", target],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{source} does not compile:\n{done.stderr}", pytrace=False)
    return target
