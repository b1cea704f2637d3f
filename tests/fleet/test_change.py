# SPDX-License-Identifier: GPL-3.0-or-later
"""Verbs that name hosts, on simulated ones: several at once, names that are wrong, hosts that are
left out, that were removed before, or of which nothing can be said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pytest

from tests.fleet.fleet import Fleet
from tests.labs import Played

COUNT = 6
ADD = "playbooks/add_hosts.yml"
REMOVE = "playbooks/remove_hosts.yml"
ROTATE = "playbooks/rotate_keys.yml"
VARIABLES = {ADD: "add_hosts", REMOVE: "remove_hosts", ROTATE: "rotate_keys_hosts"}
BRINE = "opt/brine/venv/bin/brine"


def named(playbook: str, *hosts: str) -> tuple[str, str]:
    """Arguments that name the hosts, with a space after the comma."""
    return "-e", json.dumps({VARIABLES[playbook]: ", ".join(hosts)})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A mesh of the first four hosts; the group has all."""
    with Fleet(tmp_path_factory.mktemp("fleet"), COUNT) as made:
        path = made.inventory / "hosts.yml"
        whole = path.read_text()
        *lines, _fifth, _sixth = whole.splitlines(keepends=True)
        path.write_text("".join(lines))
        played, _ = made.play()
        assert played.status == 0, played.output
        path.write_text(whole)
        yield made


def assert_peers(fleet: Fleet, names: Iterable[str]) -> None:
    """Each of them has all others as peers, and nobody else."""
    keys = {name: (fleet.store / f"{name}.txt").read_text().strip() for name in names}
    for name, key in keys.items():
        assert fleet.peers(name) == set(keys.values()) - {key}, name


def changed(played: Played) -> set[str]:
    return {name for name, count in played.changed().items() if count}


@pytest.mark.parametrize("playbook", VARIABLES)
def test_what_is_no_member_is_refused(fleet: Fleet, playbook: str) -> None:
    """Beside one that is."""
    arguments = named(playbook, fleet.names[1], "web9", "localhost")
    played, cost = fleet.play(*arguments, playbook=playbook)
    assert played.status != 0
    assert "Not in the group: localhost, web9" in played.output
    assert cost.requests == 0


@pytest.mark.parametrize("playbook", VARIABLES)
def test_no_host_may_be_left_out(fleet: Fleet, playbook: str) -> None:
    before = sorted(fleet.store.iterdir())
    name = fleet.names[2]
    played, cost = fleet.play(*named(playbook, name), "--limit", name, playbook=playbook)
    assert played.status != 0
    assert "--limit keeps the play from some" in played.output
    assert cost.requests == 0
    assert sorted(fleet.store.iterdir()) == before


def test_two_hosts_are_added(fleet: Fleet) -> None:
    *old, fifth, sixth = fleet.names
    played, _ = fleet.play(*named(ADD, fifth, sixth), playbook=ADD)
    assert played.status == 0, played.output
    assert_peers(fleet, fleet.names)
    for name in old:
        assert played.changed()[name] == 2  # its roster, and its peers
    again, _ = fleet.play(*named(ADD, fifth, sixth), playbook=ADD)
    assert again.status == 0, again.output
    assert changed(again) == set()


def test_check_mode_predicts_who_forgets_whom(fleet: Fleet) -> None:
    *others, removed = fleet.names
    before = sorted(fleet.store.iterdir())
    played, _ = fleet.play(*named(REMOVE, removed), "--check", "--diff", playbook=REMOVE)
    assert played.status == 0, played.output
    for name in others[1:]:  # the first one has the note of the store among its own
        assert played.changed()[name] == 2  # its roster, and its peers
    assert played.changed()[removed] == 0
    assert f'-   "name": "{removed}"' in played.output
    assert sorted(fleet.store.iterdir()) == before
    assert_peers(fleet, fleet.names)


def test_two_hosts_are_removed(fleet: Fleet) -> None:
    """They are tried both: a host that does not forget them is told of both."""
    broken, *others, fifth, sixth = fleet.names
    fault = fleet.host(broken).directory / "fault"
    fault.write_text("brine peers apply")
    played, _ = fleet.play(*named(REMOVE, fifth, sixth), playbook=REMOVE)
    fault.unlink()
    assert played.status != 0
    recap = played.recap()
    assert {name for name in fleet.names if recap[name]["failed"]} == {broken, fifth, sixth}
    for name in others:
        assert len(fleet.peers(name)) == 3
    again, _ = fleet.play(*named(REMOVE, fifth, sixth), playbook=REMOVE)
    assert again.status == 0, again.output
    assert changed(again) == {broken}
    assert_peers(fleet, [broken, *others])
    assert {path.name for path in fleet.store.glob("*.removed.txt")} == {
        f"{name}.removed.txt" for name in (fifth, sixth)
    }


def test_another_can_be_removed_before_the_group_is_put_in_order(fleet: Fleet) -> None:
    *others, fourth, fifth, sixth = fleet.names
    assert (fleet.store / f"{fifth}.removed.txt").exists()
    played, _ = fleet.play(*named(REMOVE, fourth), playbook=REMOVE)
    assert played.status == 0, played.output
    assert changed(played) == set(others)
    assert f"{sixth} was removed from the mesh, and is still in the group" in played.output
    assert_peers(fleet, others)


def test_only_what_was_tried_is_shown(fleet: Fleet) -> None:
    """One that cannot say whether it reaches others is a failure, one without brine is none, and
    neither is one that is off."""
    fourth, fifth, sixth = fleet.names[3:]
    fault = fleet.host(fifth).directory / "fault"
    fault.write_text("brine verify")
    (fleet.host(fourth).directory / "off").touch()
    (fleet.host(sixth).root / BRINE).unlink()
    played, _ = fleet.play(*named(REMOVE, fourth, fifth, sixth), playbook=REMOVE)
    assert played.status != 0
    assert "it was told to fail" in played.output
    recap = played.recap()
    assert {name for name in fleet.names if recap[name]["failed"]} == {fifth}
    fault.unlink()
    played, _ = fleet.play(*named(REMOVE, fourth, fifth, sixth), playbook=REMOVE)
    assert played.status == 0, played.output
    assert changed(played) == set()
