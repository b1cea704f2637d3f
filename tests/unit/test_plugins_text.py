# SPDX-License-Identifier: GPL-3.0-or-later
"""The text that plays end with: the table of the mesh, the report of findings."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.brine.mesh.plugins.action import report
from ansible_collections.brine.mesh.plugins.module_utils.brine_cli import diff_of
from ansible_collections.brine.mesh.plugins.plugin_utils import table


def status(*names: str, age: float | None = 12.4, state: str = "confirmed") -> dict[str, t.Any]:
    association = None if age is None else {"state": state, "age_seconds": age}
    return {
        "daemon": {"running": True},
        "xdp_mode": "native",
        "mtu": 1420,
        "drops": {"replay": 2, "no_route": 1},
        "peers": [
            {
                "name": name,
                "association": association,
                "received_bytes": 1536,
                "sent_bytes": 100,
            }
            for name in names
        ],
    }


def test_matrix() -> None:
    statuses = {"a": status("b"), "b": status("a", age=None), "c": None}
    assert table.matrix(statuses, {"a": {"b": 0.5}, "b": {}}) == [
        "from \\ to  a          b                  c",
        "a          ·          0.50 ms, 12 s old  no answer",
        "b          no answer  ·                  no answer",
        "c          no answer  no answer          ·",
    ]
    assert table.outcome(statuses, {"a": {"b": 0.5}}).startswith("1 of 6 pairs")


def test_summary() -> None:
    statuses = {"a": status("b", "c"), "b": None, "c": status("a", state="responded")}
    assert table.summary(statuses) == [
        "host  daemon     XDP     MTU   peers  associated  received  sent   dropped",
        "a     running    native  1420  2      2           3.0 KiB   200 B  3",
        "b     no answer  -       -     -      -           -         -      -",
        "c     running    native  1420  1      0           1.5 KiB   100 B  3",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert table.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 40, "5.0 TiB")]
)
def test_amount(count: int, text: str) -> None:
    assert table.amount(count) == text


def test_report_names_host_cause_and_next_step() -> None:
    findings = [
        {"host": "a", "check": "mtu", "cause": "it is 1280", "next_step": "raise it"},
        {"host": "", "check": "names", "cause": "a, A clash", "next_step": "rename one"},
        {"host": "a", "check": "bpf", "cause": "not allowed", "next_step": "allow it"},
    ]
    assert report.text("Found", findings, "/logs").splitlines() == [
        "Found: 3 problems",
        "",
        "  a",
        "    mtu: it is 1280.",
        "      Next: raise it.",
        "    bpf: not allowed.",
        "      Next: allow it.",
        "",
        "  inventory",
        "    names: a, A clash.",
        "      Next: rename one.",
        "",
        "  Logs of these hosts are in /logs",
    ]


class Module:
    """As much of AnsibleModule as `diff_of` looks at."""

    def __init__(self, diff: bool) -> None:
        self._diff = diff


def test_a_diff_has_only_the_lines_that_differ() -> None:
    answer = {"changed": True, "diff": {"before": "a\nb\nc\n", "after": "a\nc\nd\n"}}
    shown = diff_of(Module(True), answer, "peers")
    assert (shown["before"], shown["after"]) == ("b\n", "d\n")
    assert (shown["before_header"], shown["after_header"]) == ("peers", "peers")


@pytest.mark.parametrize(("asked", "changed"), [(False, True), (True, False), (False, False)])
def test_there_is_no_diff_that_nobody_looks_at(asked: bool, changed: bool) -> None:
    answer = {"changed": changed, "diff": {"before": "a\n", "after": "a\nb\n" * changed}}
    assert diff_of(Module(asked), answer, "peers") == {}
