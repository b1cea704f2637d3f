# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a mesh by its plays: predicted, made, left alone, limited, taken away."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

import pytest

from tests.labs import BRINE, HOSTS, Lab, Played

NOTHING = dict.fromkeys(HOSTS, 0)


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A mesh secret, and the inventory that sets it."""
    value = base64.b64encode(secrets.token_bytes(32)).decode()
    path = tmp_path_factory.mktemp("secret") / "secret.yml"
    path.write_text(f"brine:\n  vars:\n    brine_mesh_secret: {value}\n")
    return value, path


def state(lab: Lab, host: str) -> dict[str, str]:
    """What a play may leave on a host."""
    looks = {
        "files": "find / -xdev ! -path '/proc/*' ! -path '/sys/*' ! -path '/root/.ansible*'"
        " ! -path '/tmp*' ! -path '/var/tmp*' ! -path '/var/log/*' ! -path '/run/*'"
        " ! -path '/var/lib/systemd/*' ! -path '*/__pycache__*' -printf '%p %m %l\\n' | sort",
        "run": "ls /run",
        "units": "systemctl list-unit-files --no-legend --no-pager",
        "failed": "systemctl --failed --no-legend --no-pager",
        "links": "ip -brief link show | sed 's/ .*//'; ip -details link show eth0 | grep prog",
        "routes": "ip route show table all; ip -6 route show table all",
        "bpf": "ls /sys/fs/bpf",
        "forwarding": "cat /proc/sys/net/ipv4/conf/*/forwarding | sort | uniq --count",
    }
    return {name: lab.run(host, f"{look}; true") for name, look in looks.items()}


@pytest.fixture(scope="module")
def virgin(lab: Lab) -> dict[str, dict[str, str]]:
    """How the hosts were before anything was played."""
    return {host: state(lab, host) for host in HOSTS}


@pytest.fixture(scope="module")
def made(lab: Lab, virgin: dict[str, dict[str, str]], secret: tuple[str, Path]) -> Played:
    """The hosts with their mesh; the value is what the play said at -vvv."""
    assert virgin
    played = lab.play("site.yml", "-vvv", "--diff", inventories=[secret[1]])
    assert played.status == 0, played.output
    assert all(played.changed().values())
    return played


def test_check_predicts_on_virgin_hosts(
    lab: Lab, virgin: dict[str, dict[str, str]], secret: tuple[str, Path]
) -> None:
    played = lab.play("site.yml", "--check", "--diff", inventories=[secret[1]])
    assert played.status == 0, played.output
    assert all(played.changed().values())
    for told in ("a new key pair, made on the host", '"name": "lab2"', "xdp_mode", "ExecStart="):
        assert told in played.output
    assert {host: state(lab, host) for host in HOSTS} == virgin
    assert not lab.store.exists()


def test_no_secret_is_in_any_output(made: Played) -> None:
    """What `Lab.play` looks for at -vvv, here as in every other test that asks for it."""
    assert len(made.output) > 50_000
    assert made.secrets == len(HOSTS) + 1  # private keys, and the mesh secret


def test_no_secret_is_on_the_controller(lab: Lab, made: Played) -> None:
    assert made
    privates = [lab.run(host, "cat /etc/brine/identity.key").strip() for host in HOSTS]
    places = [lab.state, Path.home() / ".cache/brine"]
    for path in (path for place in places for path in place.rglob("*") if path.is_file()):
        if lab.state / "lab1" in path.parents or "upper" in path.parts:
            continue  # the disk of a host
        content = path.read_bytes()
        assert not any(private.encode() in content for private in privates), path


def test_the_secret_reaches_the_hosts(lab: Lab, made: Played, secret: tuple[str, Path]) -> None:
    assert made
    for host in HOSTS:
        assert lab.run(host, "cat /etc/brine/mesh_secret").strip() == secret[0]
        assert lab.run(host, "stat --format=%a%U /etc/brine/mesh_secret").strip() == "600root"


def test_a_second_run_changes_nothing(lab: Lab, made: Played, secret: tuple[str, Path]) -> None:
    assert made
    for arguments in ([], ["--check", "--diff"]):
        played = lab.play("site.yml", *arguments, inventories=[secret[1]])
        assert played.status == 0, played.output
        assert played.changed() == NOTHING, played.output


def test_limit_leaves_the_mesh_whole(lab: Lab, made: Played, secret: tuple[str, Path]) -> None:
    assert made
    before = lab.run("lab1", "cat /etc/brine/roster.json")
    played = lab.play("site.yml", "--limit", "lab1", inventories=[secret[1]])
    assert played.status == 0, played.output
    assert played.changed() == {"lab1": 0}
    assert lab.run("lab1", "cat /etc/brine/roster.json") == before
    assert len(lab.status("lab1")["peers"]) == 2


def test_a_daemon_of_a_former_unit_is_replaced(
    lab: Lab, made: Played, secret: tuple[str, Path]
) -> None:
    """A play that ended after it had written the unit left the former daemon running."""
    assert made
    unit = "/etc/systemd/system/brined.service"
    lab.run(
        "lab1",
        f"cp --archive {unit} /root/unit && sed -i 's/BRINED_UNIT=.*/BRINED_UNIT=former/' {unit}"
        " && systemctl daemon-reload && systemctl restart brined"
        f" && mv /root/unit {unit} && systemctl daemon-reload",
    )
    former = lab.status("lab1")["daemon"]["pid"]
    limited = ("site.yml", "--limit", "lab1")
    predicted = lab.play(*limited, "--check", inventories=[secret[1]])
    assert predicted.changed() == {"lab1": 1}, predicted.output
    played = lab.play(*limited, inventories=[secret[1]])
    assert played.status == 0, played.output
    assert played.changed() == {"lab1": 1}, played.output
    assert lab.status("lab1")["daemon"]["pid"] != former
    again = lab.play(*limited, inventories=[secret[1]])
    assert again.changed() == {"lab1": 0}, again.output


def test_a_host_made_anew_is_taken_in_under_limit(
    lab: Lab, made: Played, secret: tuple[str, Path]
) -> None:
    """lab3 lost its disk: its new key reaches the others when they are played."""
    assert made
    old = (lab.store / "lab3.txt").read_text()
    lab.run("lab3", "rm /etc/brine/identity.key")
    (lab.store / "lab3.txt").unlink()
    played = lab.play(
        "site.yml", "-e", "verify_seconds=1", "--limit", "lab3", inventories=[secret[1]]
    )
    assert (lab.store / "lab3.txt").read_text() != old
    assert "does not answer" in played.output  # the others still hold the old key
    played = lab.play("site.yml", "--diff", inventories=[secret[1]])
    assert played.status == 0, played.output
    assert played.changed()["lab1"] > 0
    answer = json.loads(lab.run("lab1", f"{BRINE} verify --peers 2 --seconds 30 --json"))
    assert [one["peer"] for one in answer["reached"]] != []
    assert answer["findings"] == []


def test_verify_and_status_change_nothing(lab: Lab, made: Played, secret: tuple[str, Path]) -> None:
    assert made
    for playbook in ("playbooks/verify.yml", "playbooks/status.yml"):
        played = lab.play(playbook, "-vvv", inventories=[secret[1]])
        assert played.status == 0, played.output
        assert played.changed() == NOTHING
        assert played.secrets == len(HOSTS) + 1


def test_verify_names_what_is_amiss_and_keeps_the_logs(
    lab: Lab, made: Played, secret: tuple[str, Path]
) -> None:
    assert made
    lab.run("lab2", "systemctl stop brined")
    try:
        played = lab.play("playbooks/verify.yml", "-vvv", inventories=[secret[1]])
    finally:
        lab.run("lab2", "systemctl start brined")
    assert played.status != 0
    assert "daemon: brined does not run" in played.output
    log = Path.home() / ".cache/brine/logs/lab2.log"
    assert "brined" in log.read_text()


def test_uninstall_leaves_the_hosts_as_they_were_found(
    lab: Lab, made: Played, virgin: dict[str, dict[str, str]], secret: tuple[str, Path]
) -> None:
    assert made
    predicted = lab.play("playbooks/uninstall.yml", "--check", inventories=[secret[1]])
    assert predicted.status == 0, predicted.output
    played = lab.play("playbooks/uninstall.yml", "-vvv", inventories=[secret[1]])
    assert played.status == 0, played.output
    assert played.secrets == len(HOSTS) + 1
    assert predicted.changed() == played.changed()
    found = {host: state(lab, host) for host in HOSTS}
    for host in HOSTS:
        for look, before in virgin[host].items():
            assert found[host][look] == before, f"{host}: {look}"
    assert not list(lab.store.iterdir())
    again = lab.play("playbooks/uninstall.yml", inventories=[secret[1]])
    assert again.status == 0, again.output
    assert again.changed() == NOTHING
