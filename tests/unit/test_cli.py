# SPDX-License-Identifier: GPL-3.0-or-later
"""The `brine` command as a process: what it prints and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from brine import cli, keys
from brine.errors import BrineError

CONFIG = {
    "bpffs": "/sys/fs/bpf/brine-that-is-not-there",
    "copy_dscp": False,
    "interface": "eth-none",
    "kernel_derivation": True,
    "max_peers": 8,
    "mtu": None,
    "object": "/nowhere/brine.bpf.o",
    "port": 4747,
    "roaming": False,
    "xdp_mode": "auto",
}


class Brine:
    def __init__(self, directory: Path) -> None:
        self.etc = directory / "etc"
        self._where = [f"--{name}={directory / name}" for name in ("etc", "state", "run")]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "brine.cli", *self._where, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Status and answer with --json. Nothing but the answer may be printed."""
        done = self.run(*arguments, "--json")
        assert done.stderr == ""
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return done.returncode, answer


@pytest.fixture
def brine(tmp_path: Path) -> Brine:
    return Brine(tmp_path)


def roster(brine: Brine, *peers: dict[str, Any]) -> None:
    text = json.dumps({"version": 1, "networks": ["10.77.0.0/16"], "peers": peers})
    (brine.etc / "roster.json").write_text(text)


def entry(name: str, public_key: str, address: str) -> dict[str, Any]:
    return {
        "name": name,
        "public_key": public_key,
        "endpoint": None,
        "addresses": [address],
        "allowed_ips": [],
        "roaming": True,
    }


def test_identity(brine: Brine) -> None:
    status, predicted = brine.ask("identity", "ensure", "--check")
    assert status == 0
    assert predicted["changed"]
    assert predicted["public_key"] is None
    assert not (brine.etc / "identity.key").exists()
    status, made = brine.ask("identity", "ensure")
    assert status == 0
    assert made["changed"]
    status, shown = brine.ask("identity", "show")
    assert shown == {name: made[name] for name in ("public_key", "key_id", "address")}
    status, again = brine.ask("identity", "ensure")
    assert not again["changed"]
    text = brine.run("identity", "show").stdout
    assert text.splitlines()[0] == f"public_key: {made['public_key']}"


def test_errors_name_cause_and_next_step(brine: Brine) -> None:
    status, answer = brine.ask("dataplane", "apply")
    assert status == 1
    assert answer.keys() == {"error"}
    assert answer["error"]["cause"] == f"there is no {brine.etc}/config.json"
    assert answer["error"]["next_step"] == "run the role dataplane on this host"
    done = brine.run("dataplane", "apply")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"brine: there is no {brine.etc}/config.json.\nNext: run the role dataplane on this host.\n"
    )


@pytest.mark.parametrize(
    ("verb", "cause"),
    [
        (("peers", "apply"), "there is no"),
        (("peers",), "there is no"),
        (("guard",), "roster.json"),
        (("status",), "there is no"),
        (("rotate",), "brined does not run"),
        (("rotate", "--exchange", "host"), "brined does not run"),
        (("dataplane", "remove"), "config.json"),
        (("identity", "show"), "identity.key"),
        (("probe", "send", "not-an-address"), "not-an-address"),
        (("probe", "receive"), "roster.json"),
    ],
)
def test_each_verb_says_what_is_missing(brine: Brine, verb: tuple[str, ...], cause: str) -> None:
    status, answer = brine.ask(*verb)
    assert status == 1
    assert cause in answer["error"]["cause"]
    assert answer["error"]["next_step"]


def test_maps_of_another_version_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(_paths: object) -> dict[str, object]:
        raise KeyError("enum of_tomorrow is not in the BTF")

    monkeypatch.setattr("brine.doctor.examine", older)
    monkeypatch.delenv("BRINE_TRACEBACK", raising=False)
    with pytest.raises(BrineError, match="of another version than this command") as failure:
        cli._ask(cli._parser().parse_args(["doctor"]))
    assert "brine dataplane apply" in failure.value.next_step


def test_an_unforeseen_error_is_an_answer_too(brine: Brine) -> None:
    brine.etc.mkdir()
    (brine.etc / "config.json").mkdir()
    status, answer = brine.ask("dataplane", "apply")
    assert status == 1
    assert "config.json cannot be read" in answer["error"]["cause"]
    (brine.etc / "config.json").rmdir()
    (brine.etc / "roster.json").mkdir()
    status, answer = brine.ask("guard")
    assert status == 1
    assert "roster.json" in answer["error"]["cause"]


def test_peers_are_predicted_before_there_is_a_configuration(brine: Brine) -> None:
    """On a fresh host in check mode nothing but the command is there."""
    brine.etc.mkdir()
    other = keys.show_key(b"\2" * 32)
    roster(
        brine,
        entry("db1", other, "10.77.0.2"),
        entry("db2", "", "10.77.0.3") | {"public_key": None},
    )
    status, answer = brine.ask("peers", "apply", "--check")
    assert status == 0
    assert answer["changed"]
    assert answer["added"] == ["db1"]
    assert answer["updated"] == answer["removed"] == []
    assert f"peer db1 {keys.key_id(bytes([2]) * 32)} " in answer["diff"]["after"]
    assert answer["diff"]["before"] == ""
    assert "left out until their public keys are known: db2" in answer["notes"]


def test_peers_are_predicted_before_there_is_a_data_path(brine: Brine) -> None:
    brine.etc.mkdir()
    (brine.etc / "config.json").write_text(json.dumps(CONFIG))
    _, own = brine.ask("identity", "ensure")
    other = keys.show_key(b"\2" * 32)
    roster(brine, entry("db1", other, "10.77.0.2"), entry("me", own["public_key"], "10.77.0.1"))
    status, answer = brine.ask("peers", "apply", "--check")
    assert status == 0
    assert answer["added"] == ["db1"]
    assert "own 10.77.0.1/32" in answer["diff"]["after"]
    assert "guard 10.77.0.0/16" in answer["diff"]["after"]
    status, answer = brine.ask("peers", "apply")
    assert status == 1
    assert answer["error"]["cause"] == "the data path is not loaded"


def test_another_roster_may_be_named(brine: Brine, tmp_path: Path) -> None:
    path = tmp_path / "proposed.json"
    peers = [entry("db1", keys.show_key(b"\2" * 32), "10.77.0.2")]
    path.write_text(json.dumps({"version": 1, "networks": [], "peers": peers}))
    status, answer = brine.ask("peers", "apply", "--roster", str(path), "--check")
    assert status == 0
    assert answer["added"] == ["db1"]


def test_the_difference_as_text(brine: Brine) -> None:
    made = brine.run("identity", "ensure").stdout
    assert made.startswith("+ public_key: ")
    again = brine.run("identity", "ensure").stdout
    assert again == made.replace("+ ", "  ")


def test_doctor_examines_what_it_can(brine: Brine) -> None:
    status, answer = brine.ask("doctor")
    assert status == 0
    assert {"identity", "configuration"} <= {one["check"] for one in answer["findings"]}
    done = brine.run("doctor")
    assert done.returncode == 1
    assert "configuration: there is no" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("identity",), ("dance",), ("status", "--nonsense")])
def test_usage(brine: Brine, arguments: tuple[str, ...]) -> None:
    done = brine.run(*arguments)
    assert done.returncode == 2
    assert "usage: brine" in done.stderr
