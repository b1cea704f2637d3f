# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate makes of two looks at a host. With real traffic: tests/scenarios."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import pytest

from brine import gate, roster, status, verify
from brine.config import Config

OWN = "0123456789abcdef"


def peer(name: str, **more: Any) -> dict[str, Any]:
    association = {"state": "confirmed", "own_key_id": OWN, **more.pop("association", {})}
    return {
        "name": name,
        "association": association,
        "last_received_seconds": 1.0,
        "received_packets": 10,
        **more,
    }


def look(*peers: dict[str, Any], **drops: int) -> dict[str, Any]:
    return {"key_id": OWN, "peers": list(peers), "drops": drops}


def judge(before: dict[str, Any], after: dict[str, Any], *reached: str) -> list[str]:
    found = gate.judge(before, after, list(reached), gate.outdated(before, after))
    assert all(one["fatal"] and one["next_step"] for one in found)
    return [one["check"] for one in found]


def later(before: dict[str, Any], packets: int = 2) -> dict[str, Any]:
    after = copy.deepcopy(before)
    for one in after["peers"]:
        one["received_packets"] += packets
    return after


def test_a_host_that_is_well() -> None:
    before = look(peer("web2"), peer("web3"), open_forged=4)
    assert judge(before, later(before), "web2", "web3") == []
    assert gate.measure(before, later(before)) == {"opened": 4, "failures": {}}


def test_nothing_was_decrypted() -> None:
    before = look(peer("web2"), peer("web3"))
    assert judge(before, later(before, 0), "web2") == ["opened"]


def test_who_is_yet_to_exchange_anew() -> None:
    waiting = peer("web4", association={"state": "unconfirmed"})
    now = look(peer("web2"), {**peer("web3"), "association": None}, waiting)
    assert gate.not_handed_over({**now, "former": None}) == []
    former = {"peers": ["web2", "web3", "web4", "0123456789abcdef"], "ends_seconds": 300}
    left = gate.not_handed_over({**now, "former": former})
    assert left == ["web3", "web4", "0123456789abcdef"]


@pytest.mark.parametrize("reason", gate.FAILURES)
def test_failures(reason: str) -> None:
    before = look(peer("web2"), **{reason: 7})
    after = {**later(before), "drops": {reason: 8}}
    assert judge(before, after, "web2") == ["failures"]


@pytest.mark.parametrize("reason", ["open_plaintext", "open_unknown_index", "open_malformed"])
def test_what_strangers_can_cause_does_not_count(reason: str) -> None:
    before = look(peer("web2"), **{reason: 7})
    assert judge(before, {**later(before), "drops": {reason: 900}}, "web2") == []


@pytest.mark.parametrize(
    "association",
    [{"own_key_id": "fedcba9876543210"}, {"own_key_id": None}, {"state": "unconfirmed"}],
)
def test_an_association_of_before(association: dict[str, Any]) -> None:
    before = look(peer("web2", association=association), peer("web3"))
    assert judge(before, later(before), "web2") == ["association"]


def test_one_that_is_lost() -> None:
    before = look(peer("web2"))
    after = later(before)
    after["peers"][0]["association"] = None
    assert judge(before, after, "web2") == ["association"]


@pytest.mark.parametrize("seconds", [31.0, None])
def test_a_peer_that_is_off_holds_nobody_up(seconds: float | None) -> None:
    old = {"own_key_id": "fedcba9876543210"}
    before = look(peer("web2", association=old, last_received_seconds=seconds), peer("web3"))
    assert judge(before, later(before), "web3") == []


OFF = {**verify.finding("echo", "web3 does not answer at 10.77.0.3", "see why"), "peer": "web3"}
DAEMON = verify.finding("daemon", "brined does not run", "start it")


@pytest.mark.parametrize(
    ("answered", "reached", "fatal"),
    [
        (None, ["web2"], True),
        (["web2", "web3"], ["web2"], True),  # it did before
        ([], ["web2"], False),
        ([], [], True),  # the host has not shown that it is well
    ],
)
def test_who_has_to_answer(
    monkeypatch: pytest.MonkeyPatch,
    answered: list[str] | None,
    reached: list[str],
    fatal: bool,
) -> None:
    asked: list[object] = []

    def run(config: Config, peers: int, seconds: float, named: Sequence[str]) -> dict[str, Any]:
        asked.append(list(named))
        times = [{"peer": name, "rtt_ms": 1.0} for name in reached]
        return {"findings": [OFF, DAEMON], "reached": times, "logs": "a journal"}

    looks = iter([look(peer("web2")), later(look(peer("web2")))])
    monkeypatch.setattr(verify, "run", run)
    monkeypatch.setattr(status, "collect", lambda config: {**next(looks), "former": None})
    found = gate.run(cast(Config, None), answered=answered)["findings"]
    assert asked == [answered or []]
    assert [one["check"] for one in found] == ["echo", "daemon"]
    assert [one["fatal"] for one in found] == [fatal, True]


def test_those_that_answered_are_found_by_name() -> None:
    """Wherever they are; one that is not there any more is told of."""
    web2, web3 = (
        roster.Entry(name, bytes([number]) * 32, (), (), (), roaming=False)
        for number, name in enumerate(("web2", "web3"))
    )
    chosen, unknown = verify.find([web2, web3], ["web3", "web4"])
    assert chosen == [web3]
    assert [(one["check"], one["peer"], one["fatal"]) for one in unknown] == [
        ("echo", "web4", True)
    ]
