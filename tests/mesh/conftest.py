# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of a mesh that is up: real state, on the hosts and on the wire between them.

The lab whose name is in BRINE_LAB is the one that they look at; Molecule sets it.
"""

from __future__ import annotations

import os

import pytest
from testinfra.host import Host

from tests.labs import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    name = os.environ.get("BRINE_LAB")
    if not name:
        pytest.exit("BRINE_LAB names no lab: run `molecule test`, or set it to a lab that is up", 4)
    return Lab(name)


@pytest.fixture(params=["lab1", "lab2", "lab3"])
def host(lab: Lab, request: pytest.FixtureRequest) -> Host:
    return lab.host(request.param)
