# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole plays on labs that these tests make, and remove at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs import Lab

# All hosts of a lab share this machine's CPUs, and a queue on each that holds a thousand
# packets: a machine that is busy with something else loses there what no host has lost.
BACKLOG = Path("/proc/sys/net/core/netdev_max_backlog")


@pytest.fixture(scope="session", autouse=True)
def _long_queues() -> Iterator[None]:
    before = BACKLOG.read_text()
    BACKLOG.write_text("30000")
    yield
    BACKLOG.write_text(before)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three hosts that nothing was done to yet. One lab a module."""
    name = request.module.__name__.rpartition("_")[2][:6]
    made = Lab(f"{name}-{os.getpid()}")
    made.up()
    yield made
    made.down()
