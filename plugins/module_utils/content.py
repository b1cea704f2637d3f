# SPDX-License-Identifier: GPL-3.0-or-later
"""Hash the content of what something is built from, so as to build it once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

KEY_DIGITS = 32
BY_PRODUCTS = ("__pycache__", ".mypy_cache", ".ruff_cache", "build")


def sources(root: Path) -> list[Path]:
    """The file `root`, or the files below it without what tools leave behind; sorted."""
    if root.is_file():
        return [root]
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file()
        and path.suffix not in (".pyc", ".o")
        and not any(
            part in BY_PRODUCTS or part.endswith(".egg-info")
            for part in path.relative_to(root).parts
        )
    )


def content_key(root: Path, files: Iterable[Path], *others: str) -> str:
    """A hexadecimal name for the files' paths below `root`, their content, and `others`."""
    state = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        state.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    for other in others:
        state.update(f"\0{other}\n".encode())
    return state.hexdigest()[:KEY_DIGITS]
