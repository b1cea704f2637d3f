# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests: hosts that are up, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from tests.integration.hosts import Host, roster_of
from tests.integration.namespaces import Switch, mount_bpffs, private_mounts

ROOT = Path(__file__).resolve().parents[2]

Make = Callable[..., list[Host]]


@pytest.fixture(scope="session")
def bpf_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object of this tree."""
    directory = tmp_path_factory.mktemp("object")
    subprocess.run(
        ["make", "-C", str(ROOT / "bpf"), f"BUILD={directory}"], check=True, capture_output=True
    )
    return directory / "brine.bpf.o"


@pytest.fixture(scope="session")
def bpffs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPF file system of this test session, which ends with it."""
    if os.geteuid() != 0:
        pytest.exit("the integration tests make network namespaces: run them as root", 4)
    private_mounts()
    directory = tmp_path_factory.mktemp("bpffs")
    mount_bpffs(str(directory))
    return directory


@pytest.fixture
def switch() -> Iterator[Switch]:
    made = Switch()
    yield made
    made.close()


@pytest.fixture
def make(
    switch: Switch, tmp_path: Path, bpffs: Path, bpf_object: Path, request: pytest.FixtureRequest
) -> Iterator[Make]:
    """Makes hosts whose data path is up and whose daemons run."""
    made: list[Host] = []

    def hosts(
        count: int,
        version: int = 4,
        psks: list[bytes] | None = None,
        roaming: Collection[int] = (),
    ) -> list[Host]:
        for number in range(1, count + 1):
            made.append(Host(switch, number, tmp_path / f"host{number}", bpffs, bpf_object))
        roster = roster_of(made, version, roaming)
        for number, host in enumerate(made):
            host.configure(roster, psks[number] if psks else None)
            host.change(roaming=number + 1 in roaming)
            host.apply()
            host.start()
        return made

    yield hosts
    for host in made:
        host.kill()
        try:
            host.forget()
        finally:
            host.close()
        if request.session.testsfailed:
            print(f"--- {host.name}\n{host.log[-6000:]}")


@pytest.fixture
def host(switch: Switch, tmp_path: Path, bpffs: Path, bpf_object: Path) -> Iterator[Host]:
    """A configured host in a roster with one peer, nothing applied."""
    made = Host(switch, 1, tmp_path / "host", bpffs, bpf_object)
    other = Host(switch, 2, tmp_path / "other", bpffs, bpf_object)
    made.configure(roster_of([made, other]))
    yield made
    made.forget()
    made.close()
    other.close()
