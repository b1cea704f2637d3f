# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh that is taken away, and made anew on hosts that know nothing of it any more; what a
first run says, and what it leaves where."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.labs import HOSTS, Lab, Played

NOTHING = dict.fromkeys(HOSTS, 0)
LOOK = Path(__file__).with_name("state.sh")  # what molecule/limit/prepare.yml has run, too


def state(lab: Lab, host: str) -> list[str]:
    """What a play may leave on a host."""
    return lab.run(host, "sh -s", LOOK.read_text()).splitlines()


def virgin(lab: Lab, host: str) -> list[str]:
    """The same before anything was played."""
    return (lab.state / f"{host}.virgin").read_text().splitlines()


def as_it_was_found(lab: Lab, host: str) -> None:
    before, now = virgin(lab, host), state(lab, host)
    assert len(before) > 1000
    differs = "\n".join(difflib.unified_diff(before, now, lineterm="", n=0))
    assert not differs, f"{host}\n{differs}"


def test_uninstall_leaves_the_hosts_as_they_were_found(mesh: Lab) -> None:
    predicted = mesh.play("playbooks/uninstall.yml", "--check")
    assert predicted.status == 0, predicted.output
    played = mesh.play("playbooks/uninstall.yml", "-vvv")
    assert played.status == 0, played.output
    assert played.secrets == len(HOSTS) + 1
    assert predicted.changed() == played.changed()
    for host in HOSTS:
        as_it_was_found(mesh, host)
    assert not list(mesh.store.iterdir())
    again = mesh.play("playbooks/uninstall.yml")
    assert again.status == 0, again.output
    assert again.changed() == NOTHING


def test_check_predicts_on_virgin_hosts(mesh: Lab) -> None:
    played = mesh.play("site.yml", "--check", "--diff")
    assert played.status == 0, played.output
    assert all(played.changed().values())
    for told in ("a new key pair, made on the host", '"name": "lab2"', "xdp_mode", "ExecStart="):
        assert told in played.output
    for host in HOSTS:
        as_it_was_found(mesh, host)
    assert not list(mesh.store.iterdir())


@pytest.fixture(scope="module")
def made(mesh: Lab) -> Played:
    """The hosts with their mesh again; the value is what the play said at -vvv."""
    played = mesh.play("site.yml", "-vvv", "--diff")
    assert played.status == 0, played.output
    assert all(played.changed().values())
    return played


def test_no_secret_is_in_any_output(made: Played) -> None:
    """What `Lab.play` looks for at -vvv, here as in every other test that asks for it."""
    assert len(made.output) > 50_000
    assert made.secrets == len(HOSTS) + 1  # private keys, and the mesh secret


@pytest.mark.usefixtures("made")
def test_no_private_key_is_on_the_controller(mesh: Lab) -> None:
    privates = [mesh.run(host, "cat /etc/brine/identity.key").strip() for host in HOSTS]
    disks = [mesh.state / host for host in HOSTS]
    for place in (mesh.state, Path.home() / ".cache/brine"):
        for path in (path for path in place.rglob("*") if path.is_file()):
            if any(disk in path.parents for disk in disks):
                continue
            content = path.read_bytes()
            assert not any(private.encode() in content for private in privates), path


@pytest.mark.usefixtures("made")
def test_the_secret_reaches_the_hosts(mesh: Lab) -> None:
    held = {mesh.run(host, "base64 -d /etc/brine/mesh_secret") for host in HOSTS}
    assert held == {(mesh.state / "mesh_secret").read_text().strip()}
    for host in HOSTS:
        assert mesh.run(host, "stat --format=%a%U /etc/brine/mesh_secret").strip() == "600root"
