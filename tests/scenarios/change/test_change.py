# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh that changes: hosts come, hosts are revoked, and no mistake empties it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labs import HOSTS, Lab
from tests.probing import probing

LAB4 = """
brine:
  hosts:
    lab4:
      brine_endpoint: 198.51.100.14
      brine_addresses: [10.77.0.14]
"""
ALL = (*HOSTS, "lab4")
CONFIG = "/etc/brine/config.json"


@pytest.fixture(scope="module")
def lab4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventory that adds a fourth host."""
    path = tmp_path_factory.mktemp("inventory") / "lab4.yml"
    path.write_text(LAB4)
    return path


def test_a_new_host_reaches_the_old_ones(mesh: Lab, lab4: Path) -> None:
    """Only it is installed, and the others lose nothing meanwhile."""
    with probing(mesh) as count:
        played = mesh.play(
            "playbooks/add_hosts.yml", "-vvv", "-e", "add_hosts=lab4", inventories=[lab4]
        )
    print(count)
    assert played.status == 0, played.output
    assert played.secrets == len(ALL)
    assert count.lost == count.duplicated == 0
    for host in ALL:
        assert mesh.reached(host) == set(ALL) - {host}
    again = mesh.play("playbooks/add_hosts.yml", "-e", "add_hosts=lab4", inventories=[lab4])
    assert again.status == 0, again.output
    assert set(again.changed().values()) == {0}, again.output
    again = mesh.play("site.yml", inventories=[lab4])
    assert set(again.changed().values()) == {0}, again.output


@pytest.mark.parametrize("verb", ["add_hosts", "remove_hosts"])
def test_who_is_meant_must_be_said(mesh: Lab, lab4: Path, verb: str) -> None:
    played = mesh.play(f"playbooks/{verb}.yml", inventories=[lab4])
    assert played.status != 0
    assert f"add -e {verb}=HOST,HOST" in played.output
    wrong = mesh.play(
        f"playbooks/{verb}.yml", "-e", f"{verb}=lab4,lab9", "--check", inventories=[lab4]
    )
    assert wrong.status != 0
    assert "Not in the group: lab9" in wrong.output


@pytest.mark.parametrize("verb", ["add_hosts", "remove_hosts"])
def test_no_host_may_be_left_out(mesh: Lab, lab4: Path, verb: str) -> None:
    arguments = ["-e", f"{verb}=lab4", "--limit", "lab1,lab4"]
    played = mesh.play(f"playbooks/{verb}.yml", *arguments, inventories=[lab4])
    assert played.status != 0
    assert "--limit keeps the play from some" in played.output
    assert not (mesh.store / "lab4.removed.txt").exists()


def test_a_mistake_does_not_empty_the_mesh(mesh: Lab, lab4: Path) -> None:
    """An inventory that has lost half of the group is refused before a host is touched."""
    inventory = Path(str(lab4)).with_name("half.yml")
    text = (mesh.inventory / "hosts.yml").read_text()
    inventory.write_text(text[: text.index("            lab2:")])
    (inventory.parent / "group_vars").mkdir(exist_ok=True)
    for path in (mesh.inventory / "group_vars").iterdir():
        (inventory.parent / "group_vars" / path.name).write_text(path.read_text())
    half = Lab(mesh.name, inventory)
    for playbook in ("site.yml", "playbooks/peers.yml"):
        played = half.play(playbook)
        assert played.status != 0
        assert "3 of 4 hosts that the public-key store knows are no longer" in played.output
        assert "-e brine_confirm_removal=true" in played.output
        assert set(played.changed().values()) == {0}
    assert mesh.reached("lab1") == {"lab2", "lab3", "lab4"}
    played = half.play("playbooks/peers.yml", "--check", "-e", "brine_confirm_removal=true")
    assert played.status == 0, played.output
    assert played.changed()["lab1"] > 0


def test_a_revoked_host_is_refused_everywhere(mesh: Lab, lab4: Path) -> None:
    """It goes on as if nothing had happened, with all that it knows, and reaches nobody."""
    assert mesh.reached("lab4") == set(HOSTS)
    before = {host: mesh.status(host)["drops"]["open_unknown_index"] for host in HOSTS}
    predicted = mesh.play(
        "playbooks/remove_hosts.yml", "--check", "-e", "remove_hosts=lab4", inventories=[lab4]
    )
    assert predicted.status == 0, predicted.output
    assert all(predicted.changed()[host] for host in HOSTS)
    assert predicted.changed()["lab4"] == 0
    assert (mesh.store / "lab4.txt").exists()
    assert mesh.reached("lab4") == set(HOSTS)
    with probing(mesh) as count:
        played = mesh.play(
            "playbooks/remove_hosts.yml", "-vvv", "-e", "remove_hosts=lab4", inventories=[lab4]
        )
    print(count)
    assert played.status == 0, played.output
    assert played.secrets == len(ALL)
    assert count.lost == count.duplicated == 0  # between the others
    for host in HOSTS:
        assert [peer["name"] for peer in mesh.status(host)["peers"]] == sorted(set(HOSTS) - {host})
    # Its packets under what it had agreed upon, and its exchanges: nothing comes back.
    assert mesh.status("lab4")["peers"]
    assert mesh.reached("lab4", 8) == set()
    for host in HOSTS:
        refused = mesh.status(host)
        unknown = refused["drops"]["open_unknown_index"] - before[host]
        assert unknown or refused["daemon"]["refused"], refused
        assert mesh.try_(host, f"ping -c 1 -W 1 {mesh.address('lab4')}").returncode != 0
    assert not (mesh.store / "lab4.txt").exists()


def test_it_does_not_come_back_by_mistake(mesh: Lab, lab4: Path) -> None:
    """The group still has it: site refuses it, others are played without it."""
    played = mesh.play("site.yml", inventories=[lab4])
    assert played.status != 0
    assert "lab4 was removed from the mesh, and is still in the group" in played.output
    assert set(played.changed().values()) == {0}
    limited = mesh.play("site.yml", "--limit", "lab1", inventories=[lab4])
    assert limited.status == 0, limited.output
    assert limited.changed() == {"lab1": 0}
    again = mesh.play("playbooks/remove_hosts.yml", "-e", "remove_hosts=lab4", inventories=[lab4])
    assert again.status == 0, again.output
    assert set(again.changed().values()) == {0}
    assert mesh.reached("lab4", 3) == set()
    without = mesh.play("site.yml")
    assert without.status == 0, without.output
    assert set(without.changed().values()) == {0}


def test_one_that_cannot_say_whom_it_reaches_is_no_proof(mesh: Lab, lab4: Path) -> None:
    arguments = ["-e", "remove_hosts=lab4"]
    mesh.run("lab4", f"mv {CONFIG} {CONFIG}.kept")
    played = mesh.play("playbooks/remove_hosts.yml", *arguments, inventories=[lab4])
    mesh.run("lab4", f"mv {CONFIG}.kept {CONFIG}")
    assert played.status != 0
    failed = {host: figures["failed"] for host, figures in played.recap().items()}
    assert failed == {**dict.fromkeys(HOSTS, 0), "lab4": 1}, played.output


def test_two_hosts_are_taken_in_again(mesh: Lab, lab4: Path) -> None:
    """The second one is revoked while the group still has the first."""
    played = mesh.play("playbooks/remove_hosts.yml", "-e", "remove_hosts=lab3", inventories=[lab4])
    assert played.status == 0, played.output
    assert {host for host, changed in played.changed().items() if changed} == {"lab1", "lab2"}
    assert mesh.reached("lab3", 3) == mesh.reached("lab4", 3) == set()
    for host in ("lab3", "lab4"):
        (mesh.store / f"{host}.removed.txt").unlink()
    played = mesh.play("playbooks/add_hosts.yml", "-e", "add_hosts=lab3,lab4", inventories=[lab4])
    assert played.status == 0, played.output
    for host in ALL:
        assert mesh.reached(host) == set(ALL) - {host}


def test_a_host_that_left_the_group_is_forgotten(mesh: Lab) -> None:
    """One may leave by leaving the group."""
    assert mesh.reached("lab1") == {"lab2", "lab3", "lab4"}
    played = mesh.play("playbooks/peers.yml", "-vvv")
    assert played.status == 0, played.output
    assert played.secrets == len(ALL)
    assert not (mesh.store / "lab4.txt").exists()
    assert mesh.reached("lab4", 3) == set()
    assert mesh.reached("lab1") == {"lab2", "lab3"}
