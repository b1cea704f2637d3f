# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the unit tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from brine.layout import Layout
from brine.libbpf import Object

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """The layout of the tree's own object, compiled once a session, never loaded."""
    build = tmp_path_factory.mktemp("object")
    subprocess.run(["make", "-C", str(ROOT / "bpf"), f"BUILD={build}"], check=True)
    opened = Object(str(build / "brine.bpf.o"))
    yield Layout(opened.btf)
    opened.close()
