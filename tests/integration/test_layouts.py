# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps of another layout in the place of those that run, and back, while packets flow."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from brine import dataplane, former, gate, pins, probe
from brine.errors import BrineError
from brine.libbpf import Map, Program
from brine.maps import Maps, pin_directory
from brine.records import boot_ns
from tests.bpf.other_layout import build_other_layout
from tests.integration.conftest import Make
from tests.integration.hosts import Host, eventually, roster_of
from tests.integration.steps import apply, reconcile_check

PATIENCE = 240  # s; another run may have the machine


@pytest.fixture(scope="module")
def other_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_other_layout(tmp_path_factory.mktemp("other_layout"))


@contextlib.contextmanager
def probing(hosts: list[Host]) -> Iterator[list[dict[str, Any]]]:
    """Numbered packets between every two hosts from beginning to end; what became of them is in
    the list then."""
    runs: list[dict[str, Any]] = []
    interrupted: list[int] = []
    others = len(hosts) - 1
    with ThreadPoolExecutor(2 * len(hosts)) as pool:
        receivers: list[Future[dict[str, Any]]] = [
            pool.submit(host.probe_receive, 2 * PATIENCE + 60, others) for host in hosts
        ]
        try:
            for host in hosts:
                eventually(host.receives)
            for host in hosts:
                targets = [other.inner4 for other in hosts if other is not host]
                pool.submit(
                    host.inside, probe.send, targets, 2 * PATIENCE, 2, interrupted=interrupted
                )
            time.sleep(0.3)
            yield runs
        finally:
            interrupted.append(1)
        for receiver in receivers:
            runs += receiver.result()["runs"]


def nothing_lost(runs: list[dict[str, Any]], pairs: int) -> None:
    print(json.dumps(runs, indent=1))
    assert len(runs) == pairs
    assert all(run["complete"] and run["sent"] > 100 for run in runs)
    assert [run["lost"] for run in runs] == [0] * pairs
    assert [run["duplicated"] for run in runs] == [0] * pairs


def replace(host: Host, path: Path) -> None:
    """Other maps; its daemon ends, as the service manager would notice."""
    assert apply(host, object=str(path))["changed"]
    assert host.ended() == 0


def handed_over(host: Host) -> None:
    def done() -> bool:
        """all former associations have been replaced"""
        return host.status()["former"] is None

    eventually(done, PATIENCE)


def reach_all(hosts: list[Host]) -> None:
    for one, two in itertools.permutations(hosts, 2):
        one.reach(two)


@pytest.mark.parametrize("killed", [False, True], ids=["", "brined killed"])
def test_another_layout_and_back_lose_nothing(
    make: Make, other_layout: Path, bpf_object: Path, killed: bool
) -> None:
    hosts = make(3)
    one = hosts[0]
    reach_all(hosts)
    with probing(hosts) as runs:
        for path in (other_layout, bpf_object):
            before = {other.name: one.index(other) for other in hosts[1:]}
            version = pin_directory(one.config.bpffs).name
            replace(one, path)
            assert pin_directory(one.config.bpffs).name != version
            assert sorted(one.status()["former"]["peers"]) == ["host2", "host3"]
            assert not apply(one)["changed"]  # a second one has nothing to do
            one.start()
            if killed:
                one.kill()
                one.start()
            handed_over(one)
            assert [path.name for path in one.config.bpffs.iterdir()] == [
                pin_directory(one.config.bpffs).name
            ]
            for other in hosts[1:]:
                assert one.index(other) != before[other.name]
    nothing_lost(runs, 6)
    assert not reconcile_check(one)["changed"]


def test_other_sizes_lose_nothing(make: Make) -> None:
    hosts = make(2)
    one, two = hosts
    reach_all(hosts)
    before = one.index(two)
    with probing(hosts) as runs:
        assert apply(one, max_peers=4)["changed"]
        assert one.ended() == 0
        one.start()
        handed_over(one)
    nothing_lost(runs, 2)
    assert one.index(two) != before


def test_both_ends_at_once_lose_nothing(make: Make, other_layout: Path) -> None:
    hosts = make(2)
    reach_all(hosts)
    with probing(hosts) as runs:
        for host in hosts:
            replace(host, other_layout)
        for host in hosts:
            host.start()
        for host in hosts:
            handed_over(host)
    nothing_lost(runs, 2)


def test_taken_back_before_its_daemon_ran_loses_nothing(
    make: Make, other_layout: Path, bpf_object: Path
) -> None:
    """And once more: three objects are at work, and no more of them are kept."""
    hosts = make(2)
    one, two = hosts
    reach_all(hosts)
    with probing(hosts) as runs:
        replace(one, other_layout)
        assert apply(one, object=str(bpf_object))["changed"]
        assert len(pins.formers(one.config.bpffs)) == 2
        assert not apply(one)["changed"]
        one.start()
        eventually(lambda: (one.association(two) or {}).get("state") == "confirmed", PATIENCE)
        one.kill()
        for path in (other_layout, bpf_object):
            assert apply(one, object=str(path))["changed"]
            assert len(pins.formers(one.config.bpffs)) <= 2
        one.start()
        handed_over(one)
    nothing_lost(runs, 2)
    assert pins.formers(one.config.bpffs) == []


# While the peer does not answer: its programs go on, its daemon is away


@pytest.fixture
def unanswered(make: Make, other_layout: Path) -> tuple[Host, Host]:
    """Two hosts that reach each other by the former association of the first alone."""
    one, two, _three = make(3)
    reach_all([one, two])
    two.kill()
    replace(one, other_layout)
    one.start()
    one.reach(two)
    assert one.association(two) is None
    return one, two


def test_who_had_no_association_gets_one(unanswered: tuple[Host, Host]) -> None:
    """By the daemon that there is: the first packet is held, not lost."""
    one, _two = unanswered
    assert one.status()["former"]["peers"] == ["host2"]
    (peer,) = (peer for peer in one.status()["peers"] if peer["name"] == "host3")
    assert peer["association"] is None
    assert one.ping(one.inner4 + 2, 20) is not None
    (peer,) = (peer for peer in one.status()["peers"] if peer["name"] == "host3")
    assert peer["association"] is not None


def test_it_goes_on_while_nobody_answers(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    for _time in range(2):
        one.kill()
        one.start()
        one.reach(two)
        assert one.status()["former"]["peers"] == ["host2"]
    two.start()
    handed_over(one)
    one.reach(two)
    assert one.association(two) is not None


def test_the_gate_says_who_is_reached_by_the_former_programs_only(
    unanswered: tuple[Host, Host],
) -> None:
    one, _two = unanswered
    answer = one.inside(gate.run, one.config, 4, 5)
    assert [
        (finding["check"], finding["fatal"])
        for finding in answer["findings"]
        if "host2" in finding["cause"]
    ] == [("opened", True)]


def test_with_other_settings_there_are_no_former_programs(
    make: Make, other_layout: Path, bpf_object: Path
) -> None:
    """They would go on with the port of before."""
    hosts = make(2)
    one = hosts[0]
    reach_all(hosts)
    assert apply(one, object=str(other_layout), roaming=True)["changed"]
    assert not pins.formers(one.config.bpffs)
    assert one.ended() == 0
    one.start()
    reach_all(hosts)
    replace(one, bpf_object)
    assert pins.formers(one.config.bpffs)
    assert apply(one, copy_dscp=True, kernel_derivation=False)["changed"]  # which can wait
    assert pins.formers(one.config.bpffs)
    assert apply(one, roaming=False)["changed"]
    assert not pins.formers(one.config.bpffs)


def test_former_maps_that_cannot_be_opened_are_not_passed_over(
    unanswered: tuple[Host, Host],
) -> None:
    one, _two = unanswered
    (directory,) = pins.formers(one.config.bpffs)
    (directory / "config").unlink()
    with pytest.raises(BrineError, match="not loaded"):
        former.Formers(one.config.bpffs, one.config.paths.control_lock)
    pins.unpin_digest(directory)  # being removed: that comes first
    with former.Formers(one.config.bpffs, one.config.paths.control_lock) as formers:
        assert not formers.all


def test_a_removed_peer_is_out_at_once(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    one.paths.roster.write_text(roster_of([one]))
    assert len(one.apply_peers()["removed"]) == 2
    assert one.ping(two.inner4, 2) is None
    assert two.ping(one.inner4, 2) is None
    handed_over(one)


@pytest.mark.parametrize("to", ["another peer", "this host"])
def test_a_part_of_a_peers_prefix_that_becomes_anothers(
    make: Make, other_layout: Path, to: str
) -> None:
    """The former routes would go on leading it to the peer that has the whole."""
    hosts = make(3)
    one, two, _three = hosts
    members = json.loads(roster_of(hosts))
    members["peers"][1]["allowed_ips"] = ["10.88.0.0/16"]
    one.paths.roster.write_text(json.dumps(members))
    one.apply_peers()
    reach_all([one, two])
    two.kill()
    replace(one, other_layout)
    assert former_peers(one) == {two.public}
    one.apply_peers()  # nothing changes
    assert former_peers(one) == {two.public}
    if to == "another peer":
        members["peers"][2]["allowed_ips"] = ["10.88.3.0/24"]
    else:
        members["peers"][0]["addresses"].append("10.88.3.1")
    one.paths.roster.write_text(json.dumps(members))
    one.apply_peers()
    assert former_peers(one) == set()


def former_peers(host: Host) -> set[bytes]:
    with former.Formers(host.config.bpffs, host.paths.control_lock) as formers:
        return formers.identities()


def test_another_mesh_secret_ends_it(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    one.set_mesh_secret(bytes(range(32)))
    one.ask("reload")
    assert one.ping(two.inner4, 2) is None
    handed_over(one)


def test_detached_it_comes_back(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    assert one.inside(dataplane.detach, one.config, False)["changed"]
    assert one.ping(two.inner4, 2) is None
    assert apply(one)["changed"]
    one.reach(two)


def test_taken_away_nothing_is_left(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    assert len(pins.directories(one.config.bpffs)) == 2
    one.kill()
    one.forget()
    assert not one.config.bpffs.exists()
    one.apply()  # as after a reboot
    one.start()
    two.start()
    one.reach(two)
    assert one.status()["former"] is None


def past_its_time(host: Host) -> None:
    """Let six minutes pass, as far as the host can tell."""
    (directory,) = pins.formers(host.config.bpffs)
    with contextlib.closing(Program.pinned(str(directory / "control"))) as program:
        pins.pin_until(directory, boot_ns() - 1, program)


def test_past_its_time_it_ends(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    one.kill()
    past_its_time(one)
    before = apply(one, check=True)["diff"]["before"]
    assert "former maps past their time" in before
    assert "interrupted migration" not in before
    one.start()
    handed_over(one)
    assert pins.formers(one.config.bpffs) == []
    assert not apply(one)["changed"]
    assert one.ping(two.inner4, 1) is None


def test_without_a_daemon_the_next_apply_ends_it(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    one.kill()
    past_its_time(one)
    assert apply(one)["changed"]
    assert pins.formers(one.config.bpffs) == []
    for slot in ("former_seal", "former_open"):
        with contextlib.closing(Map.pinned(str(pin_directory(one.config.bpffs) / slot))) as item:
            assert item.lookup(bytes(4)) is None
    assert one.ping(two.inner4, 1) is None


def test_keys_are_overwritten_peer_by_peer(unanswered: tuple[Host, Host]) -> None:
    one, two = unanswered
    one.kill()
    lock = one.paths.control_lock
    (directory,) = pins.formers(one.config.bpffs)
    with former.Formers(one.config.bpffs, lock) as formers, Maps.open(directory, lock) as maps:
        (identity,) = formers.identities()
        (number,) = maps.associations_in_use()
        assert any(secrets_of(maps, number))
        formers.erase(bytes(32))  # nobody's
        assert any(secrets_of(maps, number))
        formers.erase(identity)
        assert formers.identities() == set()
        assert maps.associations_in_use() == {}
        assert not any(secrets_of(maps, number))
    assert one.ping(two.inner4, 1) is None


def secrets_of(maps: Maps, number: int) -> bytes:
    """What the association's slot holds behind its public members, and its boxes' keys."""
    layout = maps.layout
    sizes = layout.enum("map_size")
    found = b""
    with contextlib.closing(Map.pinned(str(maps.directory / "associations"))) as item:
        raw = item.lookup(number.to_bytes(4, "little"))
        assert raw is not None
        kind: Any = layout.association
        found += raw[kind.secret.offset :]
    with contextlib.closing(Map.pinned(str(maps.directory / "boxes"))) as item:
        first = number * sizes["BOXES_PER_ASSOCIATION"]
        for box in range(first, first + sizes["BOXES_PER_ASSOCIATION"]):
            raw = item.lookup(box.to_bytes(4, "little"))
            assert raw is not None
            found += bytes(layout.box.from_buffer_copy(raw).subkey)
    return found
