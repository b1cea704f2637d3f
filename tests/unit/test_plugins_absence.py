# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose fault it is that a member does not answer."""

from __future__ import annotations

import typing as t

from ansible_collections.brine.mesh.plugins.plugin_utils.absence import (
    NAMED,
    Answers,
    attribute,
    names,
)

HOSTS = ("a", "b", "c")
OFF = {"unreachable": True, "msg": "Failed to connect to the host via ssh"}


def asked(**peers: bool) -> dict[str, t.Any]:
    """What `brine verify` returns on a host: whether each peer answered."""
    return {
        "reached": [{"peer": peer, "rtt_ms": 0.5} for peer, answered in peers.items() if answered],
        "findings": [],
    }


def in_vain(host: str, peer: str) -> dict[str, t.Any]:
    return {
        "host": host,
        "check": "echo",
        "cause": f"{peer} does not answer at 10.0.0.1",
        "next_step": "look",
        "fatal": True,
        "peer": peer,
    }


def test_a_member_that_is_down_is_one_finding_of_its_own() -> None:
    answers = Answers.of(
        HOSTS, HOSTS, {"a": asked(b=True, c=False), "b": asked(a=True, c=False), "c": OFF}
    )
    given = [in_vain("a", "c"), in_vain("a", "c"), in_vain("b", "c")]
    (found,) = attribute(given, answers, fatal=True)
    assert (found["host"], found["check"], found["fatal"]) == ("c", "absent", True)
    assert "answers neither Ansible nor a, b through the mesh" in found["cause"]
    (found,) = attribute(given, answers, fatal=False)
    assert not found["fatal"]


def test_it_is_told_also_if_nobody_asked_it_through_the_mesh() -> None:
    answers = Answers.of(HOSTS, HOSTS, {"a": asked(b=True), "b": asked(a=True), "c": OFF})
    (found,) = attribute([], answers, fatal=True)
    assert found["host"] == "c"
    assert "no host has asked it" in found["cause"]


def test_a_play_that_nobody_answers_has_shown_nothing() -> None:
    """All are silent, or the others dropped out before."""
    for in_play in ("abc", "bc"):
        results: dict[str, dict[str, t.Any]] = {"a": {}, "b": OFF, "c": OFF}
        if "a" in in_play:
            results["a"] = OFF
        found = attribute([], Answers.of(HOSTS, in_play, results), fatal=False)
        assert [entry["host"] for entry in found] == list(HOSTS)
        assert all(entry["fatal"] for entry in found)
        assert all("it has shown nothing of the mesh" in entry["cause"] for entry in found)
        assert not any("remove_hosts" in entry["next_step"] for entry in found)


def test_a_member_that_is_up_is_a_finding_of_who_asked() -> None:
    answers = Answers.of(
        HOSTS, HOSTS, {"a": asked(c=False), "b": asked(c=True), "c": asked(a=True, b=True)}
    )
    (found,) = attribute([in_vain("a", "c")], answers, fatal=False)
    assert (found["host"], found["check"], found["fatal"]) == ("a", "echo", True)
    assert found["cause"].endswith("at 10.0.0.1; c is up, it answers Ansible")


def test_one_that_ansible_alone_cannot_reach_is_up() -> None:
    answers = Answers.of(HOSTS, HOSTS, {"a": asked(c=False), "b": asked(c=True), "c": OFF})
    vain, connection = attribute([in_vain("a", "c")], answers, fatal=False)
    assert vain["host"] == "a"
    assert vain["cause"].endswith("c is up, b can reach it")
    assert (connection["host"], connection["check"]) == ("c", "connection")
    assert connection["fatal"]
    assert "though b can reach it through the mesh" in connection["cause"]


def test_one_that_dropped_out_before() -> None:
    """Ansible left it out: of whatever it registers nothing is there."""
    results: dict[str, dict[str, t.Any]] = {"a": asked(c=False), "b": asked(a=True), "c": {}}
    (found,) = attribute([in_vain("a", "c")], Answers.of(HOSTS, "ab", results), fatal=True)
    assert (found["host"], found["check"]) == ("c", "absent")
    assert "dropped out of this run, see above, and does not answer a" in found["cause"]
    results["b"] = asked(c=True)
    (found,) = attribute([in_vain("a", "c")], Answers.of(HOSTS, "ab", results), fatal=True)
    assert (found["host"], found["check"]) == ("a", "echo")


def test_one_that_the_run_is_not_about() -> None:
    answers = Answers.of(("a",), ("a",), {"a": asked(c=False)})
    (found,) = attribute([in_vain("a", "c")], answers, fatal=True)
    assert found["host"] == "a"
    assert found["cause"].endswith("this play has not asked whether c is up")


def test_what_is_about_no_peer_stays_as_it_is() -> None:
    entry = {"host": "c", "check": "daemon", "cause": "down", "next_step": "start", "fatal": True}
    answers = Answers.of(HOSTS, HOSTS, {"a": asked(c=True), "b": asked(c=True), "c": asked(a=True)})
    assert attribute([entry], answers, fatal=False) == [entry]


def test_many_hosts_are_counted() -> None:
    many = [f"h{number}" for number in range(NAMED + 3)]
    assert names(many).endswith(f"h{NAMED - 1} and 3 more")
    assert names(many[:2]) == "h0, h1"
