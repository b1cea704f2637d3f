# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the BPF tests."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from brine import pins
from tests.bpf.host import Host
from tests.bpf.loaded import Loaded, build, load
from tests.bpf.ratchet import Two

_MNT_DETACH = 2


@pytest.fixture(scope="session")
def bpf_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object's path, built once a session."""
    return build(tmp_path_factory.mktemp("object"))


@pytest.fixture(scope="session")
def loaded(bpf_object: Path) -> Iterator[Loaded]:
    """The whole object, self-test programs included, with small maps of its own."""
    made = load(bpf_object)
    yield made
    made.close()


@pytest.fixture
def host(loaded: Loaded) -> Iterator[Host]:
    """The maps of `loaded`, emptied for one test."""
    made = Host(loaded)
    yield made
    made.close()


@pytest.fixture
def ready(host: Host) -> Host:
    """`host` with two peers, nothing installed."""
    host.configure()
    host.peer(2, ("198.51.100.9", 4747))
    host.peer(3, ("198.51.100.10", 4747))
    return host


@pytest.fixture(scope="session")
def loaded_other(bpf_object: Path) -> Iterator[Loaded]:
    """A second load of the object: another host."""
    made = load(bpf_object)
    yield made
    made.close()


@pytest.fixture
def two(loaded: Loaded, loaded_other: Loaded) -> Iterator[Two]:
    """Two hosts with a confirmed association."""
    hosts = Host(loaded), Host(loaded_other)
    yield Two(*hosts)
    for host in hosts:
        host.close()


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system, mounted by brine's own code."""
    point = tmp_path / "bpffs"
    point.mkdir()
    pins.ensure_bpffs(point / "brine")
    yield point / "brine"
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.umount2(os.fsencode(point), _MNT_DETACH) == 0, os.strerror(ctypes.get_errno())
