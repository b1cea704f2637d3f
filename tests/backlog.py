# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine-wide setting that tests on labs need, for as long as any run of them does.

All hosts of a lab share this machine's CPUs, and a queue on each that holds a thousand packets:
a machine that is busy with something else loses there what no host has lost.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

BACKLOG = Path("/proc/sys/net/core/netdev_max_backlog")
LONG = "30000"
FORMER = Path("/run/brine-backlog")


@contextlib.contextmanager
def long_backlog(setting: Path = BACKLOG, former: Path = FORMER) -> Iterator[None]:
    """Have the queues long. Runs beside each other share that: the last one ends it.

    former: locked by whose turn it is to look; holds what the setting was before, also for the
    run after one that was killed. Beside it a file that all runs lock together.
    """
    with former.open("a+") as turn, former.with_suffix(".users").open("a") as users:
        with _locked(turn):
            if _alone(users):
                turn.seek(0)
                if not turn.read():
                    turn.write(setting.read_text())
                    turn.flush()
                setting.write_text(LONG)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with _locked(turn):
                if _alone(users):
                    turn.seek(0)
                    setting.write_text(turn.read())
                    turn.truncate(0)
                fcntl.flock(users, fcntl.LOCK_UN)  # before the next one has its turn


@contextlib.contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _alone(users: IO[str]) -> bool:
    """Whether nobody else has it locked. If so it is locked for nobody else, else not at all."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
