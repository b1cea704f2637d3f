# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of tests beside each other, which need the same setting of the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backlog import LONG, long_backlog

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "1000\n"
RUN = """
import sys
from pathlib import Path
from tests.backlog import LONG, long_backlog

setting, former = map(Path, sys.argv[1:3])
for _ in range(int(sys.argv[3])):
    with long_backlog(setting, former):
        assert setting.read_text() == LONG
        if sys.argv[4:]:
            print("long", flush=True)
            sys.stdin.read()
"""


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "setting"
    path.write_text(BEFORE)
    return path


def start(setting: Path, former: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(setting), str(former), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_first_run_to_end_takes_it_from_no_other(setting: Path, tmp_path: Path) -> None:
    former = tmp_path / "former"
    first, second = (long_backlog(setting, former) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert setting.read_text() == LONG
    second.__exit__(None, None, None)
    assert setting.read_text() == BEFORE


def test_runs_that_begin_and_end_at_any_time(setting: Path, tmp_path: Path) -> None:
    runs = [start(setting, tmp_path / "former", "100") for _ in range(3)]
    for run in runs:
        run.communicate()
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert setting.read_text() == BEFORE


def test_what_a_killed_run_left_is_put_back_by_the_next(setting: Path, tmp_path: Path) -> None:
    former = tmp_path / "former"
    with start(setting, former, "1", "stay") as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "long\n"
        run.kill()
    assert setting.read_text() == LONG
    with long_backlog(setting, former):
        assert setting.read_text() == LONG
    assert setting.read_text() == BEFORE
