# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: it comes, stays as it is, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.labs import HOSTS, ROOT, Lab


def traces(name: str) -> list[str]:
    """Everything on this machine that bears the lab's name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"/{name}/" in command or f"brine-{name}-" in command:
            found.append(f"process {command}")
    found += [
        f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if name in line
    ]
    for place in (
        "/run/netns",
        "/run/brine-lab",
        "/var/lib/brine-lab",
        "/run/systemd/nspawn/propagate",
    ):
        found += [str(path) for path in Path(place).glob(f"*{name}*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/*{name}*") if path.is_dir()]
    return found


def test_a_lab_comes_and_goes() -> None:
    lab = Lab(f"life-{os.getpid()}")
    assert traces(lab.name) == []
    lab.up()
    try:
        assert [lab.run(host, "hostname").strip() for host in HOSTS] == list(HOSTS)
        assert lab.run("lab1", "systemctl is-system-running --wait").strip() == "running"
        again = lab.play("playbooks/lab.yml")
        assert again.status == 0
        assert again.changed() == dict.fromkeys(HOSTS, 0)
        assert len(traces(lab.name)) > len(HOSTS)
    finally:
        lab.down()
    assert traces(lab.name) == []
    again = lab.play("playbooks/lab.yml", "-e", "lab_state=absent")
    assert again.status == 0
    assert again.changed() == dict.fromkeys(HOSTS, 0)


def test_a_host_that_was_switched_off_is_booted_again() -> None:
    lab = Lab(f"off-{os.getpid()}")
    lab.up()
    try:
        lab.run("lab2", "touch /root/kept")
        lab.power_off("lab2")
        lab.up()
        assert lab.run("lab2", "ls /root/kept").strip() == "/root/kept"
    finally:
        lab.down()


def test_without_root_there_is_one_clear_error() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "scripts/bootstrap", "--lab"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "only root may" in done.stderr
    assert "Next: run it as root" in done.stderr


def test_without_bpf_there_is_one_clear_error() -> None:
    """Capabilities are what the kernel asks for; without them it refuses, as in a container."""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-bpf,-sys_admin", "scripts/bootstrap", "--lab"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "error: this" in done.stderr
    assert "Next: " in done.stderr
