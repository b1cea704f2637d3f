# SPDX-License-Identifier: GPL-3.0-or-later
"""Other objects and other sizes in the place of those that run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from brine import dataplane, former, loader, pins
from brine.errors import BrineError
from brine.libbpf import Map
from brine.maps import Maps, pin_directory
from tests.integration.conftest import Make
from tests.integration.hosts import Host, eventually
from tests.integration.steps import apply, changed, everything, id_of, other_object, reconcile_check


def probed(one: Host, two: Host, seconds: float, during: Any) -> dict[str, int]:
    """What became of numbered packets from `one` to `two` while `during` ran."""
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(two.probe_receive, seconds + 30, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, seconds)
        time.sleep(0.3)
        during()
        (run,) = receiver.result()["runs"]
        sender.result()
    return dict(run)


def test_another_object_takes_over_and_no_packet_is_lost(make: Make, tmp_path: Path) -> None:
    one, two = make(2)
    one.reach(two)
    directory = pin_directory(one.config.bpffs)
    ids = {path.name: id_of(directory, path.name) for path in maps_of(directory)}
    association = one.association(two)
    programs = {name: pins.program_id(directory, name) for name in pins.PROGRAMS}

    def replace() -> None:
        for host in (one, two, one):
            answer = apply(host, object=str(other_object(host, tmp_path)))
            assert answer["changed"]
            assert answer["xdp_mode"] == "native"
            assert not apply(host)["changed"]

    run = probed(one, two, 6.0, replace)
    assert run["lost"] == run["duplicated"] == 0
    assert {path.name: id_of(directory, path.name) for path in maps_of(directory)} == ids
    after = one.association(two)
    assert association is not None
    assert after is not None
    assert after["local_index"] == association["local_index"]
    for name, before in programs.items():
        assert pins.program_id(directory, name) not in (0, before)
    assert one.ask("rotate", exchange=True)["started"] == ["host2"]  # through the new `control`
    eventually(lambda: one.index(two) != after["local_index"])


def maps_of(directory: Path) -> list[Path]:
    return [
        path
        for path in directory.iterdir()
        if path.name not in (*pins.PROGRAMS, "open_link") and "object_" not in path.name
    ]


def slot_of(directory: Path, name: str) -> bytes | None:
    """The program that is handed on to there."""
    with contextlib.closing(Map.pinned(str(directory / name))) as item:
        return item.lookup(bytes(4))


def test_a_prediction_of_another_object_changes_nothing(host: Host, tmp_path: Path) -> None:
    apply(host)
    before = everything(host)
    path = other_object(host, tmp_path)
    answer = apply(host, check=True, object=str(path))
    assert answer["changed"]
    assert loader.digest(path) in answer["diff"]["after"]
    assert loader.digest(path) not in answer["diff"]["before"]
    assert everything(host) == before


def test_other_sizes_get_new_maps_with_the_same_peers(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    before = one.peer(two)
    with Maps.of(one.config) as maps:
        old_peers, old_routes = maps.peers(), maps.routes()
        old_config = bytes(maps.config())
        name = maps.directory.name
        answer = apply(one, max_peers=4)
        assert answer["changed"]
        assert maps.stale()
    assert not apply(one)["changed"]
    with Maps.of(one.config) as maps:
        assert maps.max_peers == 4
        assert maps.peers() == old_peers
        assert maps.routes() == old_routes
        assert bytes(maps.config()) == old_config
    assert not reconcile_check(one)["changed"]
    assert one.ended() == 0  # the service manager would start it again
    one.start()
    assert sorted(path.name for path in one.config.bpffs.iterdir()) == [name, f"{name}_former1"]
    one.reach(two)
    two.reach(one)
    after = one.association(two)
    assert before["association"] is not None
    assert after is not None
    assert after["local_index"] != before["association"]["local_index"]


def test_room_for_more_endpoints_comes_with_new_maps(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier package loaded cannot be reused for more of them, but makes way."""
    with monkeypatch.context() as earlier:
        earlier.setattr(loader, "ENDPOINTS_LIMIT", 0)
        one, two = make(2)
        assert not apply(one, check=True)["changed"]
    one.reach(two)
    assert apply(one, check=True)["changed"]
    apply(one)
    assert not apply(one)["changed"]
    assert not reconcile_check(one)["changed"]
    assert one.ended() == 0
    one.start()
    one.reach(two)


def test_sizes_too_small_for_the_peers_are_refused(make: Make) -> None:
    one, two, three = make(3)
    one.reach(two)
    with pytest.raises(BrineError, match="max_peers is 1, but the host has 2 peers"):
        apply(one, max_peers=1)
    changed(one, max_peers=16)
    apply(one)
    assert one.ping(two.inner4) is not None
    assert one.ping(three.inner4) is not None
    assert pins.left_over(one.config.bpffs) == []


@pytest.mark.parametrize("moment", ["before the switch", "handed on", "within it"])
def test_an_interrupted_migration_is_cleared_up(host: Host, bpf_object: Path, moment: str) -> None:
    apply(host)
    host.apply_peers()
    bpffs = host.config.bpffs
    name = pin_directory(bpffs).name
    peers = id_of(bpffs / name, "peers")
    (bpffs / f"{name}_next").mkdir()
    opened = loader.open_object(bpf_object)
    loader.load(opened, bpffs / f"{name}_next", 4)
    programs = {program: opened.program(program) for program in pins.PROGRAMS}
    opened.close()
    if moment != "before the switch":
        former.link(bpffs / name, bpffs / f"{name}_next", programs, host.paths.control_lock)
        assert slot_of(bpffs / name, "successor") is not None
    for program in programs.values():
        program.close()
    if moment == "within it":
        (bpffs / name).rename(bpffs / f"{name}_former1")
    predicted = apply(host, check=True)
    assert f"interrupted migration {name}_next" in predicted["diff"]["before"]
    assert apply(host)["changed"]
    assert [path.name for path in bpffs.iterdir()] == [name]
    assert id_of(bpffs / name, "peers") == peers
    assert slot_of(bpffs / name, "successor") is None
    assert pins.until(bpffs / name) is None
    assert not apply(host)["changed"]
    assert not reconcile_check(host)["changed"]


def killed(host: Host, moment: str, **changes: Any) -> None:
    """`brine dataplane apply`, killed as it comes to that function of brine.pins."""
    child = os.fork()
    if not child:
        try:
            setattr(pins, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            apply(host, **changes)
        finally:
            os._exit(1)
    _pid, ended = os.waitpid(child, 0)
    assert os.WIFSIGNALED(ended)
    assert os.WTERMSIG(ended) == signal.SIGKILL


@pytest.mark.parametrize("moment", ["pin_link", "pin_digest"])
def test_taking_back_what_was_killed_cuts_nobody_off(
    make: Make, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Its programs were attached already. Loading others takes a while."""
    one, two = make(2)
    one.reach(two)
    index = one.index(two)
    killed(one, moment, max_peers=4)
    one.reach(two)
    loaded: list[Path] = []
    load = dataplane._load

    def loading(config: Any, directory: Path) -> Any:
        one.reach(two)
        with Maps.of(config) as maps:
            assert index in {found.local_index for found in maps.associations()}
        loaded.append(directory)
        return load(config, directory)

    monkeypatch.setattr(dataplane, "_load", loading)
    assert apply(one)["changed"]
    assert loaded
    assert pins.left_over(one.config.bpffs) == []
    assert one.ended() == 0
    one.start()
    one.reach(two)
    eventually(lambda: one.association(two) is not None)
