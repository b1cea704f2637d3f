# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles other BPF sources than the one that bpf/Makefile builds, with its flags."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from tests.bpf.loaded import ROOT


def compile_bpf(source: Path, target: Path) -> Path:
    """`source`, which finds the headers of bpf/ unless they are beside it."""
    flags = ["-O2", "-g", "-mcpu=v3", "-target", "bpfel", "-Wall", "-Wextra", "-Werror"]
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    subprocess.run(
        ["clang-19", *flags, include, f"-I{ROOT / 'bpf'}", "-c", source, "-o", target], check=True
    )
    return target
