# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the BPF tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bpf.host import Host
from tests.bpf.loaded import Loaded, build, load


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
