# SPDX-License-Identifier: GPL-3.0-or-later
"""site once more: it changes what differs, on the hosts that it is limited to."""

from __future__ import annotations

from tests.labs import HOSTS, Lab

LIMITED = ("site.yml", "--limit", "lab1")


def test_check_mode_finds_nothing_to_change(mesh: Lab) -> None:
    played = mesh.play("site.yml", "--check", "--diff")
    assert played.status == 0, played.output
    assert played.changed() == dict.fromkeys(HOSTS, 0), played.output


def test_limit_leaves_the_mesh_whole(mesh: Lab) -> None:
    before = mesh.run("lab1", "cat /etc/brine/roster.json")
    played = mesh.play(*LIMITED)
    assert played.status == 0, played.output
    assert played.changed() == {"lab1": 0}
    assert mesh.run("lab1", "cat /etc/brine/roster.json") == before
    assert len(mesh.status("lab1")["peers"]) == 2


def test_a_daemon_of_a_former_unit_is_replaced(mesh: Lab) -> None:
    """A play that ended after it had written the unit left the former daemon running."""
    unit = "/etc/systemd/system/brined.service"
    mesh.run(
        "lab1",
        f"cp --archive {unit} /root/unit && sed -i 's/BRINED_UNIT=.*/BRINED_UNIT=former/' {unit}"
        " && systemctl daemon-reload && systemctl restart brined"
        f" && mv /root/unit {unit} && systemctl daemon-reload",
    )
    former = mesh.status("lab1")["daemon"]["pid"]
    predicted = mesh.play(*LIMITED, "--check")
    assert predicted.changed() == {"lab1": 1}, predicted.output
    played = mesh.play(*LIMITED)
    assert played.status == 0, played.output
    assert played.changed() == {"lab1": 1}, played.output
    assert mesh.status("lab1")["daemon"]["pid"] != former
    again = mesh.play(*LIMITED)
    assert again.changed() == {"lab1": 0}, again.output


def test_a_host_made_anew_is_taken_in_under_limit(mesh: Lab) -> None:
    """lab3 lost its disk: its new key reaches the others when they are played."""
    old = (mesh.store / "lab3.txt").read_text()
    mesh.run("lab3", "rm /etc/brine/identity.key")
    (mesh.store / "lab3.txt").unlink()
    played = mesh.play("site.yml", "-e", "verify_seconds=1", "--limit", "lab3")
    assert (mesh.store / "lab3.txt").read_text() != old
    assert "does not answer" in played.output  # the others still hold the old key
    assert "this play has not asked whether lab1 is up" in played.output
    played = mesh.play("site.yml", "--diff")
    assert played.status == 0, played.output
    assert played.changed()["lab1"] > 0
    assert mesh.reached("lab1") == {"lab2", "lab3"}
