# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs that were killed or have failed leave to the next one, on simulated hosts, and
`upgrade` with hosts that are off, or are cut off meanwhile."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.fleet import Fleet
from tests.labs import Played

COUNT = 4
UPGRADE = "playbooks/upgrade.yml"
# What is left by a play that was killed right after this task.
KILLED = """
- name: Change the data path
  hosts: brine
  gather_facts: false
  become: true
  tasks:
    - name: Apply it
      brine.mesh.dataplane:
        lifeline: 120
      register: applied
    - name: See that it is due to be called off
      ansible.builtin.assert:
        that: applied.armed
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), COUNT) as fleet:
        played, _ = fleet.play()
        assert played.status == 0, played.output
        yield fleet


def recall(fleet: Fleet, name: str, what: str) -> Any:
    """Of a host's memory."""
    return pickle.loads((fleet.host(name).memory / what).read_bytes())


def armed(fleet: Fleet, name: str) -> bool:
    """Whether the host is about to take `open` off its interface."""
    return "brine-lifeline" in recall(fleet, name, "active")


def words(played: Played) -> str:
    """The output on one line, since warnings are wrapped."""
    return " ".join(played.output.split())


def test_a_play_that_was_killed_takes_nothing_down_once_it_is_run_again(
    made: Fleet, tmp_path: Path
) -> None:
    """Though nothing is left for it to change."""
    name = made.names[0]
    (made.host(name).memory / "dataplane").unlink()
    killed = tmp_path / "killed.yml"
    killed.write_text(KILLED)
    played, _ = made.play("--limit", name, playbook=str(killed))
    assert played.status == 0, played.output
    assert played.changed() == {name: 1}
    assert armed(made, name)
    played, _ = made.play("--limit", name)
    assert played.status == 0, played.output
    assert played.changed() == {name: 0}, played.output
    assert not armed(made, name)


def test_a_change_that_fails_leaves_the_data_path_alone(made: Fleet) -> None:
    """What was attached before still is, and works."""
    name = made.names[0]
    (made.host(name).memory / "dataplane").unlink()  # so that there is something to change
    fault = made.host(name).directory / "fault"
    fault.write_text("brine dataplane apply --json")
    for playbook in ("site.yml", UPGRADE):
        played, _ = made.play("--limit", name, playbook=playbook)
        assert played.status != 0
        assert "it was told to fail" in played.output
        assert not armed(made, name)
    fault.unlink()
    played, _ = made.play("--limit", name)
    assert played.status == 0, played.output
    assert not armed(made, name)


def test_site_forgets_what_an_upgrade_has_left_once_the_mesh_works(made: Fleet) -> None:
    """And not before."""
    name = made.names[0]
    former = made.host(name).root / "opt/brine/former"
    former.mkdir(exist_ok=True)
    (former / ".complete").touch()
    fault = made.host(name).directory / "fault"
    fault.write_text("brine verify")
    played, _ = made.play("--limit", name)
    assert played.status != 0
    assert former.exists()
    fault.unlink()
    played, _ = made.play("--limit", name)
    assert played.status == 0, played.output
    assert played.changed() == {name: 0}
    assert not former.exists()


def test_a_member_that_is_off_holds_no_upgrade_up(made: Fleet) -> None:
    """Not even where it would have been the canary."""
    off, *others = made.names
    (made.host(off).directory / "off").touch()
    played, _ = made.play(playbook=UPGRADE)
    (made.host(off).directory / "off").unlink()
    recap = played.recap()
    assert recap[off]["unreachable"] == 1
    for name in others:
        assert recap[name]["failed"] == recap[name]["rescued"] == recap[name]["unreachable"] == 0
        assert f"{name}: echo: {off} does not answer" in words(played)
    assert "The upgrade has stopped" not in played.output
    assert played.output.count("PLAY [Upgrade batch after batch]") == len(others)


def test_a_host_that_reaches_nobody_is_put_back(made: Fleet) -> None:
    """It has not shown that it is well."""
    name = made.names[0]
    for other in made.names[1:]:
        (made.host(other).directory / "off").touch()
    played, _ = made.play("--limit", name, playbook=UPGRADE)
    for other in made.names[1:]:
        (made.host(other).directory / "off").unlink()
    assert played.status != 0
    assert played.recap()[name]["rescued"] == 1
    assert "No peer answered this host before the upgrade, and none does now" in words(played)


def test_an_upgrade_stops_where_hosts_are_cut_off(made: Fleet) -> None:
    """The rest of their batch is done, the batches after it are not touched."""
    canary, well, cut, last = made.names
    told = made.host(cut).directory / "cut"
    told.write_text("brine dataplane apply --json")
    batches = ("-e", '{"upgrade_batches": [1, 2, 1]}')
    played, _ = made.play(*batches, playbook=UPGRADE)
    told.unlink()
    (made.host(cut).directory / "cut_off").unlink()
    recap = played.recap()
    assert played.status != 0
    assert recap[cut]["unreachable"] == 1
    assert recap[canary]["failed"] == recap[canary]["rescued"] == recap[well]["rescued"] == 0
    assert "The upgrade has stopped in this batch" in played.output
    assert f"  {cut}\n    connection: no answer to Ansible" in played.output
    assert played.output.count("PLAY [Upgrade batch after batch]") == 2
    assert recap[last]["ok"] < recap[well]["ok"]


def test_uninstall_ends_what_was_killed_at_the_files(tmp_path: Path) -> None:
    """No unit is left to be found, but systemd may yet know them, and the lifeline's."""
    with Fleet(tmp_path, 1) as fleet:
        (name,) = fleet.names
        memory = fleet.host(name).memory
        memory.mkdir()
        (memory / "active").write_bytes(pickle.dumps({"brine-lifeline"}))
        played, _ = fleet.play(playbook="playbooks/uninstall.yml")
        assert played.status == 0, played.output
        assert played.changed() == {name: 0}
        assert recall(fleet, name, "reloads") == 1
        assert not armed(fleet, name)
