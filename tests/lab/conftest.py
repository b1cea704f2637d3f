# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole plays on labs that these tests make, and remove at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.labs import Lab


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three hosts that nothing was done to yet. One lab a module."""
    name = request.module.__name__.rpartition("_")[2][:6]
    made = Lab(f"{name}-{os.getpid()}")
    made.up()
    yield made
    made.down()
