# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps of others under the name of ours, and ours as others find them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from brine import former, loader, pins
from brine.libbpf import Map
from brine.maps import Maps, pin_directory
from brine.records import StaleMaps
from tests.bpf.other_layout import UNAGREED, build_other_layout
from tests.integration.conftest import Make
from tests.integration.hosts import Host
from tests.integration.steps import apply


def test_what_is_opened_late_is_of_the_same_maps(make: Make) -> None:
    """Or nothing: other maps may bear the name by then."""
    (one,) = make(1)
    one.kill()
    lock = one.config.paths.control_lock
    directory = pin_directory(one.config.bpffs)
    with Maps.open(directory, lock) as maps, Maps.open(directory, lock) as others:
        assert apply(one, max_peers=one.config.max_peers + 1)["changed"]
        assert pin_directory(one.config.bpffs) == directory
        with pytest.raises(StaleMaps):
            maps.peers()
        directory.rename(directory.with_name("v0"))
        with pytest.raises(StaleMaps):
            others.peers()
        directory.with_name("v0").rename(directory)


def test_of_former_maps_only_what_versions_agree_on_is_read(
    host: Host, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = build_other_layout(tmp_path_factory.mktemp("renamed"), UNAGREED)
    bpffs, lock = host.config.bpffs, host.paths.control_lock
    directory = bpffs / "v1000_former1"
    pins.ensure_bpffs(bpffs)
    directory.mkdir()
    with contextlib.closing(loader.open_object(path)) as opened:
        loader.load(opened, directory, 4)
        pins.pin_programs(directory, {name: opened.program(name) for name in pins.PROGRAMS})
    identity = bytes(range(32))
    with Maps.open(directory, lock) as maps:
        peer: Any = maps.layout.peer()
        peer.identity[:] = identity
        write(directory, "peers", 2, peer)
        association: Any = maps.layout.association()
        association.state = maps.layout.enum("association_state")["ASSOCIATION_CONFIRMED"]
        association.peer, association.local_index = 2, 77
        write(directory, "associations", 5, association)
    with former.Formers(bpffs, lock) as formers:
        assert formers.identities() == {identity}
        assert formers.indices == {77}
        formers.erase(identity)
        assert formers.identities() == set()
    former.retire(directory, lock)
    assert not directory.exists()


def write(directory: Path, name: str, number: int, value: Any) -> None:
    with contextlib.closing(Map.pinned(str(directory / name))) as item:
        item.update(number.to_bytes(4, "little"), bytes(value))
