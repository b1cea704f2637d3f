# SPDX-License-Identifier: GPL-3.0-or-later
"""`site.yml` on simulated hosts: made, left alone, limited, and with hosts that fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import Fleet
from tests.labs import Played

COUNT = 6


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), COUNT) as made:
        yield made


@pytest.fixture(scope="module")
def predicted(fleet: Fleet) -> Played:
    played, _ = fleet.play("--check", "--diff")
    assert not any((fleet.host(name).root / "etc/brine").exists() for name in fleet.names)
    return played


@pytest.fixture(scope="module")
def made(fleet: Fleet, predicted: Played) -> Played:
    played, _ = fleet.play()
    return played


def key(fleet: Fleet, name: str) -> str:
    """A host's public key, by the store."""
    return (fleet.store / f"{name}.txt").read_text().strip()


def assert_whole(fleet: Fleet, names: list[str]) -> None:
    """Each of them has all others as peers."""
    keys = {name: key(fleet, name) for name in names}
    assert len(set(keys.values())) == len(names)
    for name in names:
        assert fleet.peers(name) == set(keys.values()) - {keys[name]}, name


def test_the_roster_is_predicted_once(fleet: Fleet, predicted: Played, made: Played) -> None:
    """It is the same for all hosts: with N of them, N² entries would be shown."""
    assert predicted.status == 0, predicted.output
    assert all(predicted.changed()[name] for name in fleet.names)
    assert predicted.output.count(f'"name": "{fleet.names[-1]}"') == 1
    assert '"name":' not in made.output


def test_the_first_run_makes_the_mesh(fleet: Fleet, made: Played) -> None:
    assert made.status == 0, made.output
    assert made.recap().keys() >= set(fleet.names)
    for name in fleet.names:
        figures = made.recap()[name]
        assert figures["changed"] > 0
        assert not figures["failed"]
        assert not figures["unreachable"]
    assert_whole(fleet, fleet.names)


def test_a_second_run_changes_nothing(fleet: Fleet, made: Played) -> None:
    assert made.status == 0
    played, cost = fleet.play()
    assert played.status == 0, played.output
    assert {name: played.changed()[name] for name in fleet.names} == dict.fromkeys(fleet.names, 0)
    assert cost.controller > 0
    assert cost.hosts > 0
    assert cost.main > 0
    assert cost.forks > 0
    assert cost.requests > COUNT


def test_limit_leaves_a_host_with_every_peer(fleet: Fleet, made: Played) -> None:
    assert made.status == 0
    name = fleet.names[2]
    played, _ = fleet.play("--limit", name)
    assert played.status == 0, played.output
    assert played.changed() == {name: 0}
    assert_whole(fleet, fleet.names)


def test_hosts_that_fail_stop_no_other(tmp_path: Path) -> None:
    """One that is off drops out before anything is done, one whose data path fails drops out
    there; the rest has its mesh, and the report at the end names who does not answer."""
    with Fleet(tmp_path, 4) as fleet:
        off, broken, *well = fleet.names
        (fleet.host(off).directory / "off").touch()
        (fleet.host(broken).directory / "fault").write_text("brine dataplane apply")
        played, _ = fleet.play()
        recap = played.recap()
        assert played.status != 0
        assert recap[off]["unreachable"] == 1
        assert recap[off]["changed"] == 0
        assert recap[broken]["failed"] == 1
        assert not fleet.peers(broken)
        for name in well:
            assert recap[name]["unreachable"] == 0
            others = {key(fleet, other) for other in (broken, *well) if other != name}
            assert fleet.peers(name) == others
        assert "it dropped out of this run, see above, and does not answer" in played.output
        assert f"{off} does not answer" not in played.output  # nobody knows its key
        (fleet.host(off).directory / "off").unlink()
        (fleet.host(broken).directory / "fault").unlink()
        played, _ = fleet.play()
        assert played.status == 0, played.output
        assert_whole(fleet, fleet.names)


def test_a_fault_found_beforehand_stops_all(tmp_path: Path) -> None:
    with Fleet(tmp_path, 3) as fleet:
        variables = fleet.inventory / "host_vars" / f"{fleet.names[1]}.yml"
        variables.parent.mkdir()
        variables.write_text("brine_interface: nic\n")
        played, _ = fleet.play()
        assert played.status != 0
        assert "there is no interface nic" in played.output
        for name in fleet.names:
            assert not (fleet.host(name).root / "etc/brine").exists()
        assert not fleet.store.exists()


def test_what_the_stand_in_does_not_know_fails(tmp_path: Path) -> None:
    """Both a command that a module runs and one for the shell."""
    with Fleet(tmp_path, 1) as fleet:
        for task in ("ansible.builtin.command: {cmd: uptime}", "ansible.builtin.raw: uptime"):
            playbook = tmp_path / "play.yml"
            playbook.write_text(
                "- name: Ask for it\n  hosts: brine\n  gather_facts: false\n  tasks:\n"
                f"    - name: Do it\n      {task}\n"
            )
            played, _ = fleet.play(playbook=str(playbook))
            assert played.status != 0, played.output
            assert "a simulated host" in played.output, played.output
