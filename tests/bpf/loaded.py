# SPDX-License-Identifier: GPL-3.0-or-later
"""The BPF object, built from the tree and loaded whole, for tests.

Nothing is pinned or attached: the programs run through BPF_PROG_TEST_RUN and
vanish with the test session.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from brine.btf import Btf
from brine.libbpf import Map, Object, Program

ROOT = Path(__file__).resolve().parents[2]
PEERS = 8
ASSOCIATIONS = 12


class Loaded:
    """One load of the object: its own maps, its own programs."""

    def __init__(self, path: Path, prefix_left_out: str | None = None) -> None:
        self._object = Object(str(path))
        self.btf: Btf = self._object.btf
        sizes = self.btf.enum("map_size")
        for name in ("peers", "peer_states", "traffic", "limits", "endpoints", "awaited"):
            self._object.set_max_entries(name, PEERS)
        for name, each in (
            ("associations", 1),
            ("indices", 1),
            ("boxes", sizes["BOXES_PER_ASSOCIATION"]),
            ("counters", sizes["PAIRS"]),
            ("windows", sizes["PAIRS"]),
        ):
            self._object.set_max_entries(name, ASSOCIATIONS * each)
        if prefix_left_out:
            self._object.leave_out(prefix_left_out)
        self._object.load()
        self._programs: dict[str, Program] = {}
        self._maps: dict[str, Map] = {}

    def program(self, name: str) -> Program:
        """A loaded program; open until :meth:`close`."""
        if name not in self._programs:
            self._programs[name] = self._object.program(name)
        return self._programs[name]

    def program_names(self) -> list[str]:
        return self._object.program_names()

    def map(self, name: str) -> Map:
        """A map of this load; open until :meth:`close`."""
        if name not in self._maps:
            self._maps[name] = self._object.map(name)
        return self._maps[name]

    def struct(self, name: str) -> Any:
        """``struct name`` as a ctypes class (untyped: its fields come from BTF)."""
        made: type[ctypes.Structure] = self.btf.struct(name)
        return made

    def enum(self, name: str) -> dict[str, int]:
        return self.btf.enum(name)

    def close(self) -> None:
        for program in self._programs.values():
            program.close()
        for item in self._maps.values():
            item.close()
        self._object.close()


def build(directory: Path, source: str = "brine.bpf.c", sources: Path = ROOT / "bpf") -> Path:
    """Compile the object, or one of the tests' own from the same headers, into `directory`.
    `source` counts from `sources`: bpf/, or a copy that was changed.

    Where there is no compiler, BRINE_OBJECTS names the directory of what one has built.
    """
    name = Path(source).with_suffix(".o").name
    if "BRINE_OBJECTS" in os.environ:
        return Path(os.environ["BRINE_OBJECTS"], name)
    done = subprocess.run(
        ["make", "-C", str(sources), f"BUILD={directory}", f"SOURCE={source}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the BPF object does not compile:\n{done.stdout}{done.stderr}", pytrace=False)
    return directory / name


def load(path: Path) -> Loaded:
    """Load it; without BPF permission the test fails and says so."""
    try:
        return Loaded(path)
    except OSError as error:
        if error.errno == errno.EPERM:
            pytest.fail(
                "the kernel refuses BPF to these tests: run them as root (or with CAP_BPF,"
                " CAP_NET_ADMIN and CAP_PERFMON) on a kernel >= 6.1, outside any container"
                f" that filters bpf(2)\n{error}",
                pytrace=False,
            )
        pytest.fail(f"the kernel refuses the BPF object:\n{error}", pytrace=False)
