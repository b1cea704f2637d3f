# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a lab, by what their supervisors leave in the file system."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.brine.mesh.plugins.module_utils import nspawn

# As nspawn_supervisor.Supervisor.take_lock, with a pause where another process may look.
SUPERVISOR = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.ftruncate(lock, 0)
print("locked", flush=True)
sys.stdin.readline()
os.write(lock, f"{os.getpid()}\\n".encode())
print("written", flush=True)
sys.stdin.read()
"""
DEADLINE = 300  # s


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nspawn.Host:
    monkeypatch.setattr(nspawn, "RUNTIME", tmp_path)
    made = nspawn.Host("lab", "lab1")
    made.runtime.mkdir(parents=True)
    return made


def supervise(host: nspawn.Host) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(host.runtime / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    expect(process, "locked")
    return process


def expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


def write_pid(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_supervisor_that_only_begins_is_stopped(host: nspawn.Host) -> None:
    with supervise(host) as process:
        assert host.supervisor_pid() is None
        assert nspawn.running_hosts("lab") == ["lab1"]
        stopping = threading.Thread(target=host.stop, args=(DEADLINE,))
        stopping.start()
        stopping.join(0.5)
        assert stopping.is_alive()
        write_pid(process)
        assert process.wait(DEADLINE) == -signal.SIGTERM
        stopping.join(DEADLINE)
        assert not stopping.is_alive()
    assert nspawn.running_hosts("lab") == []


def test_a_supervisor_that_has_begun_is_stopped(host: nspawn.Host) -> None:
    with supervise(host) as process:
        write_pid(process)
        expect(process, "written")
        assert host.supervisor_pid() == process.pid
        host.stop(DEADLINE)
        assert process.wait(DEADLINE) == -signal.SIGTERM


def test_one_of_which_nothing_runs_is_stopped(host: nspawn.Host) -> None:
    host.stop()
    (host.runtime / "lock").write_text("1\n")  # of an earlier one: the process is another's
    host.stop()
    assert host.supervisor_pid() is None
    assert nspawn.running_hosts("lab") == []
