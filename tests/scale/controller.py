# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part: reading the inventory and the store, checking, rendering the roster.

A play of one task that runs once; next to it the same play with a task that does nothing, so
that Ansible's own share can be told from ours.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.labs import ROOT
from tests.scale import inventory

PLAY = """
- name: Measure
  hosts: brine
  gather_facts: false
  tasks:
    - name: Do it once
      {task}
      run_once: true
"""
NOTHING = "ansible.builtin.debug: {msg: nothing}"
ROSTER = "brine.mesh.roster: {store: '{{ inventory_dir }}/public_keys', cache: %s}"


@dataclass(frozen=True)
class Row:
    hosts: int
    nothing: float  #: s
    roster: float  #: s
    memory: int  #: bytes, at most
    size: int  #: bytes, of the roster


def measure(count: int) -> Row:
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory, "inventory")
        inventory.make(made, count)
        inventory.make_store(made, count)
        cache = Path(directory, "cache")
        nothing, _ = play(made, directory, NOTHING)
        seconds, memory = play(made, directory, ROSTER % cache)
        (roster,) = cache.iterdir()
        return Row(count, nothing, seconds, memory, roster.stat().st_size)


def play(made: Path, directory: str, task: str) -> tuple[float, int]:
    """Wall time, and the most memory that the process had."""
    path = Path(directory, "play.yml")
    path.write_text(PLAY.replace("{task}", task))
    begin = time.monotonic()
    process = subprocess.Popen(
        ["ansible-playbook", "-i", str(made), str(path)],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the play failed with {process.returncode}")
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def table(counts: list[int]) -> str:
    lines = [
        (
            "| hosts | a play that does nothing, s | with the roster, s | the roster's share, s"
            " | memory, MiB | roster, KiB |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for count in counts:
        row = measure(count)
        lines.append(
            f"| {row.hosts} | {row.nothing:.1f} | {row.roster:.1f} | {row.roster - row.nothing:.1f}"
            f" | {row.memory / 2**20:.0f} | {row.size / 1024:.0f} |"
        )
    return "\n".join(lines)
