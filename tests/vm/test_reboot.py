# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that reboots comes back into the mesh by itself, with an empty kernel."""

from __future__ import annotations

import time

from tests.labs import Lab
from tests.vm.machines import OTHER

SECONDS = 900  # emulation on a busy machine


def boot_id(lab: Lab, name: str) -> str:
    """Which boot this is; empty while it does not answer."""
    return lab.try_(name, "cat /proc/sys/kernel/random/boot_id").stdout


def test_a_machine_comes_back_after_a_reboot(lab: Lab, machine: str) -> None:
    before = boot_id(lab, machine)
    assert before
    lab.try_(machine, "systemctl reboot")  # the connection may end before the command does
    deadline = time.monotonic() + SECONDS
    while boot_id(lab, machine) in ("", before):
        assert time.monotonic() < deadline, f"{machine} did not come back within {SECONDS} s"
        time.sleep(1)
    up = lab.run(machine, "systemctl is-system-running --wait")
    assert up == "running\n"

    for source, target in ((machine, OTHER[machine]), (OTHER[machine], machine)):
        for address in lab.status(target)["addresses"]:
            # Both have to notice that the old association is gone: protocol, "Punt".
            lab.run(source, f"ping -c 1 -w 60 {address}")
            lab.run(source, f"ping -c 5 -i 0.2 -W 10 {address}")
    assert lab.status(machine)["xdp_mode"] == "native"
