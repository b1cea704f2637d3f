# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that reboots comes back into the mesh by itself."""

from __future__ import annotations

import json
import time

import pytest

from tests.labs import BRINE, Lab

SECONDS = 120


def boot_id(lab: Lab, name: str) -> str:
    """Which boot this is, by the start of the host's init; empty while it is down."""
    done = lab.try_(name, "stat --format=%Y%i /proc/1 && systemctl is-system-running --wait")
    return done.stdout.splitlines()[0] if "running" in done.stdout else ""


@pytest.mark.parametrize("name", ["lab1", "lab3"])  # of both Debian releases, if the lab has them
def test_a_host_comes_back_after_a_reboot(lab: Lab, name: str) -> None:
    before = boot_id(lab, name)
    assert before
    assert lab.status(name)["peers"]
    lab.try_(name, "systemctl reboot")  # the connection may end before the command does
    deadline = time.monotonic() + SECONDS
    while boot_id(lab, name) in ("", before):
        assert time.monotonic() < deadline, f"{name} did not come back within {SECONDS} s"
        time.sleep(0.5)
    for host in (name, "lab2"):
        answer = json.loads(lab.run(host, f"{BRINE} verify --peers 2 --seconds 60 --json"))
        assert answer["findings"] == []
        assert len(answer["reached"]) == 2
    assert lab.status(name)["xdp_mode"] == "native"
