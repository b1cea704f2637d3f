# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole plays on a mesh that Molecule has made of hosts of both Debian releases.

    molecule test -s rotate

or step by step: `molecule converge -s rotate`, `molecule verify -s rotate`. BRINE_LAB and
BRINE_LAB_HOSTS say which lab it is and what its hosts are; Molecule sets them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backlog import long_backlog
from tests.labs import HOSTS, Lab

RELEASES = {"bookworm", "trixie"}


@pytest.fixture(scope="session", autouse=True)
def _long_backlog() -> Iterator[None]:
    with long_backlog():
        yield


@pytest.fixture(scope="session")
def mesh() -> Lab:
    """Three hosts, of both releases, that site.yml was played on."""
    name, hosts = (os.environ.get(variable) for variable in ("BRINE_LAB", "BRINE_LAB_HOSTS"))
    if not name or not hosts:
        pytest.exit("BRINE_LAB names no lab: run `molecule test -s SCENARIO`", 4)
    lab = Lab(name, more=Path(hosts))
    assert {lab.release(host) for host in HOSTS} == RELEASES
    return lab
