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

from tests.labs import HOSTS, Lab

RELEASES = {"bookworm", "trixie"}

# All hosts of a lab share this machine's CPUs, and a queue on each that holds a thousand
# packets: a machine that is busy with something else loses there what no host has lost.
BACKLOG = Path("/proc/sys/net/core/netdev_max_backlog")


@pytest.fixture(scope="session", autouse=True)
def _long_queues() -> Iterator[None]:
    before = BACKLOG.read_text()
    BACKLOG.write_text("30000")
    yield
    BACKLOG.write_text(before)


@pytest.fixture(scope="session")
def mesh() -> Lab:
    """Three hosts, of both releases, that site.yml was played on."""
    name, hosts = (os.environ.get(variable) for variable in ("BRINE_LAB", "BRINE_LAB_HOSTS"))
    if not name or not hosts:
        pytest.exit("BRINE_LAB names no lab: run `molecule test -s SCENARIO`", 4)
    lab = Lab(name, more=Path(hosts))
    assert {lab.release(host) for host in HOSTS} == RELEASES
    return lab
