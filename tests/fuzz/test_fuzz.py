# SPDX-License-Identifier: GPL-3.0-or-later
"""The fuzz targets on their seeds and on what was found before, with a short run of the C ones;
and that they find what is there to be found. `make fuzz` looks for more."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fuzz import native, python_targets
from tests.fuzz.__main__ import REGRESSIONS

RUNS = 1500  # a second or so


def inputs(name: str) -> list[bytes]:
    """What was found before."""
    directory = REGRESSIONS / name
    return [path.read_bytes() for path in sorted(directory.iterdir())] if directory.is_dir() else []


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def fuzz(program: Path, name: str, directory: Path, runs: int) -> subprocess.CompletedProcess[str]:
    """From the seeds on, the same inputs every time."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, data in enumerate([*native.seeds(name), *inputs(name)]):
        (corpus / str(number)).write_bytes(data)
    return subprocess.run(
        [program, "-seed=1", f"-runs={runs}", "-max_len=2048", "-timeout=60", corpus],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", native.TARGETS)
def test_native_target(build: Path, tmp_path: Path, name: str) -> None:
    done = fuzz(native.build(name, build), name, tmp_path, RUNS)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("name", "header", "old", "new"),
    [
        pytest.param("replay", "replay.h", "if (word & bit)", "if (0)", id="a replay"),
        pytest.param(
            *("open", "open.h", "route_lookup(&inner->source)) != area->packet.peer"),
            "route_lookup(&inner->source)) < 0",
            id="another peer's address",
        ),
        pytest.param(
            *("seal", "seal.h", "&counter->lane[lane].next, 1)", "&counter->lane[lane].next, 0)"),
            id="a nonce twice",
        ),
        pytest.param(
            *("secretbox", "secretbox.h", "for (i = 0; i < 8; i++) /* behind"),
            "for (i = 0; i < 7; i++) /* behind",
            id="a keystream cut short",
        ),
    ],
)
def test_errors_in_the_real_code_are_found(
    tmp_path: Path, name: str, header: str, old: str, new: str
) -> None:
    shutil.copytree(native.BPF, tmp_path / "bpf")
    path = tmp_path / "bpf" / header
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    done = fuzz(native.build(name, tmp_path, tmp_path / "bpf"), name, tmp_path, RUNS)
    assert done.returncode != 0
    assert "broken: " in done.stderr or "AddressSanitizer" in done.stderr


@pytest.mark.parametrize("name", python_targets.TARGETS)
def test_python_target(build: Path, name: str) -> None:
    target = python_targets.TARGETS[name](build)
    for data in [*target.seeds, *inputs(name), b""]:
        target.test(data)
