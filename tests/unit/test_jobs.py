# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts that run tests beside each other: what they started ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 300  # s
# In place of molecule and pytest, with a child of its own as they have.
STAND_IN = """#!/usr/bin/env bash
echo $$ >>"$PIDS"
bash -c 'echo $$ >>"$PIDS"; exec sleep 600'
"""
# Whoever runs the tests may have had them ignore what a terminal sends.
HEEDING = ("env", "--default-signal=HUP,INT,TERM")


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def lives(pid: int) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("script", "jobs"), [("test_scenarios", 2), ("test_side_by_side", 3)])
def test_what_it_started_ends_with_it(
    tmp_path: Path, script: str, jobs: int, number: signal.Signals
) -> None:
    started = tmp_path / "pids"
    for name in ("molecule", "python"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    run = subprocess.Popen(
        [*HEEDING, ROOT / "scripts" / script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PIDS": str(started)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while len(pids(started)) < 2 * jobs:
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.send_signal(number)
        assert run.wait(DEADLINE) != 0
        while any(map(lives, pids(started))):  # all are told, not all are waited for
            assert time.monotonic() < deadline + DEADLINE
            time.sleep(0.02)
    finally:
        run.kill()
        for pid in filter(lives, pids(started)):
            os.kill(pid, signal.SIGKILL)


def test_the_result_is_that_of_every_job(tmp_path: Path) -> None:
    stand_in = tmp_path / "python"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for condition, status in (
        ("true", 0),
        ("[[ $* != *--ignore* ]]", 1),
        ("[[ $* = *--ignore* ]]", 1),
    ):
        stand_in.write_text(f"#!/usr/bin/env bash\necho it ran\n{condition}\n")
        stand_in.chmod(0o755)
        done = subprocess.run(
            [ROOT / "scripts/test_side_by_side"],
            check=False,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == status
        assert done.stdout.count("it ran") == 3
