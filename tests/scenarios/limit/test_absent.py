# SPDX-License-Identifier: GPL-3.0-or-later
"""verify and status of a mesh that is well, of one with a member that is off, and of one whose
members cannot reach each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs import HOSTS, Lab, Played

VERIFY = "playbooks/verify.yml"
STATUS = "playbooks/status.yml"


def words(played: Played) -> str:
    """The output on one line, since warnings are wrapped."""
    return " ".join(played.output.split())


def failed(played: Played) -> set[str]:
    """The hosts that the play failed on."""
    return {host for host, figures in played.recap().items() if figures["failed"]}


def test_verify_and_status_change_nothing(mesh: Lab) -> None:
    for playbook in (VERIFY, STATUS):
        played = mesh.play(playbook, "-vvv")
        assert played.status == 0, played.output
        assert played.changed() == dict.fromkeys(HOSTS, 0)
        assert played.secrets == len(HOSTS) + 1


def test_verify_names_what_is_amiss_and_keeps_the_logs(mesh: Lab) -> None:
    kept = Path.home() / ".cache/brine/logs"
    for former in kept.glob(f"{mesh.name}-*/lab2.log"):
        former.unlink()
    mesh.run("lab2", "systemctl stop brined")
    try:
        played = mesh.play(VERIFY, "-vvv")
    finally:
        mesh.run("lab2", "systemctl start brined")
    assert played.status != 0
    assert "daemon: brined does not run" in played.output
    assert failed(played) == {"lab2"}
    (log,) = kept.glob(f"{mesh.name}-*/lab2.log")
    assert f"Logs of these hosts are in {log.parent}\n" in played.output
    assert "brined" in log.read_text()


def test_a_member_that_is_up_and_cannot_be_reached(mesh: Lab) -> None:
    """What lab1 sends to lab2 goes astray: both say so of each other, and nobody of lab3."""
    neighbour = f"{mesh.endpoint('lab2')} dev eth0"
    # Its own address: the bridge sends nothing back to where it came from.
    own = "$(cat /sys/class/net/eth0/address)"
    mesh.run("lab1", f"ip neighbour replace {neighbour} lladdr {own} nud permanent")
    try:
        played = mesh.play(VERIFY, "-e", "verify_seconds=3", "-e", "verify_absent=warn")
    finally:
        mesh.run("lab1", f"ip neighbour delete {neighbour}")
    assert played.status != 0
    assert failed(played) == {"lab1", "lab2"}
    assert f"lab2 does not answer at {mesh.address('lab2')}" in played.output
    assert "lab2 is up, it answers Ansible" in played.output
    assert "absent:" not in played.output
    assert "Well: lab3" in played.output
    assert mesh.reached("lab1", 60) == {"lab2", "lab3"}


@pytest.fixture(scope="class")
def off(mesh: Lab) -> Iterator[Lab]:
    """The mesh with lab3 switched off; afterwards it is on again, and well."""
    mesh.power_off("lab3")
    yield mesh
    mesh.up()
    for host in HOSTS:
        assert mesh.reached(host, 60) == set(HOSTS) - {host}
    played = mesh.play(VERIFY)
    assert played.status == 0, played.output


DOWN = "absent: it is down or cut off: it answers neither Ansible nor lab1, lab2 through the mesh"


class TestWithOneOff:
    def test_verify_fails_and_says_that_the_others_are_well(self, off: Lab) -> None:
        played = off.play(VERIFY, "-e", "verify_seconds=4")
        assert played.status != 0
        assert "1 problem" in played.output
        assert f"  lab3\n    {DOWN}" in played.output
        assert "Well: lab1, lab2" in played.output
        assert failed(played) == set()
        assert played.recap()["lab3"]["unreachable"] == 1

    def test_verify_may_only_warn(self, off: Lab) -> None:
        played = off.play(VERIFY, "-e", "verify_seconds=4", "-e", "verify_absent=warn")
        assert played.status == 0, played.output
        assert f"lab3: {DOWN}" in words(played)

    def test_site_goes_on_without_it(self, off: Lab) -> None:
        played = off.play("site.yml", "-e", "verify_seconds=4")
        assert played.status != 0
        assert "  lab3\n    absent: it dropped out of this run, see above, and" in played.output
        assert "does not answer lab1, lab2 in the mesh" in played.output
        assert failed(played) == set()
        assert played.changed() == dict.fromkeys(HOSTS, 0)

    def test_status_shows_it_without_an_answer(self, off: Lab) -> None:
        played = off.play(STATUS)
        rows = [line.split()[:3] for line in played.output.splitlines()]
        for row in ("lab1 running native", "lab2 running native", "lab3 no answer"):
            assert row.split() in rows, played.output
