# SPDX-License-Identifier: GPL-3.0-or-later
"""The primitives, built natively, under valgrind with secrets marked uninitialised.

The object's own instructions are checked by tests/bpf/test_constant_time.py. This is another
compiler back end's look at the same C, by a tool that shares nothing with that analysis.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.build import BPF, build

FLAGS = ("-O2", "-gdwarf-4")  # Debian 12's valgrind reads no newer DWARF
COMPLAINT = 9  # valgrind's exit code then
PRIMITIVES = ("x25519", "derive", "header_tag", "blake2b", "hsalsa20", "secretbox")


def valgrind(program: Path, primitive: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["valgrind", "--quiet", f"--error-exitcode={COMPLAINT}", program, primitive],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("secrets.c", tmp_path_factory.mktemp("secrets"), FLAGS)


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_nothing_depends_on_secrets(program: Path, primitive: str) -> None:
    done = valgrind(program, primitive)
    assert done.returncode == 0, done.stderr


def test_a_leak_is_found(program: Path) -> None:
    done = valgrind(program, "leak")
    assert done.returncode == COMPLAINT
    assert "depends on uninitialised value" in done.stderr
    assert "run_leak" in done.stderr


@pytest.mark.parametrize(
    ("primitive", "header", "old", "new", "function"),
    [
        pytest.param(
            *("x25519", "x25519.h", "\tx25519_step(s);\n", "\tif (bit)\n\t\tx25519_step(s);\n"),
            "x25519_ladder_callback",
            id="a ladder that skips",
        ),
        pytest.param(
            *("blake2b", "blake2b.h", "= hash->state[i];", "= hash->state[hash->block[i] & 7];"),
            "blake2b_block",
            id="a table look-up by a key",
        ),
    ],
)
def test_leaks_in_the_real_code_are_found(
    tmp_path: Path, primitive: str, header: str, old: str, new: str, function: str
) -> None:
    shutil.copytree(BPF, tmp_path / "bpf")
    path = tmp_path / "bpf" / header
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    done = valgrind(build("secrets.c", tmp_path, FLAGS, tmp_path / "bpf"), primitive)
    assert done.returncode == COMPLAINT
    assert function in done.stderr
