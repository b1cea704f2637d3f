# SPDX-License-Identifier: GPL-3.0-or-later
"""The object, built here with the compiler of the fleet's builder, on kernels that are not ours.

Another verifier has to accept it, and another just-in-time compiler to compile it rightly.
No play is needed before.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bpf.loaded import build
from tests.bpf.other_layout import build_other_layout
from tests.labs import ROOT, Lab
from tests.vm.machines import MACHINES, push

DIRECTORY = "/root/brine-test"
SOURCES = (
    "brine.bpf.c",
    "../tests/bpf/derive_in_xdp.bpf.c",
    "../tests/bpf/races.bpf.c",
    "../tests/bpf/hurried.bpf.c",
)

# Of tests/bpf: what a verifier or a just-in-time compiler could get wrong. The rest is about
# the order of things between CPUs and calls, and takes an emulated machine ten minutes.
ASKED = (
    "secretbox", "x25519", "blake2b", "poly1305", "derive",
    "seal", "open", "former", "admission", "ratchet", "wire",
)  # fmt: skip

LOAD = """
import sys
from brine import libbpf
for path in sys.argv[1:]:
    item = libbpf.Object(path)
    item.load()
    print(path)
    item.close()
"""


@pytest.fixture(scope="module")
def pushed(lab: Lab, machine: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of the machine that holds the objects, the package and the BPF tests."""
    built = tmp_path_factory.mktemp("objects")
    for source in SOURCES:
        build(built, source)
    other = build_other_layout(tmp_path_factory.mktemp("other_layout"))
    other.rename(built / other.name)
    files: dict[str, Path] = {"objects": built}
    for name in ("brine", "bpf", "pyproject.toml", "tests/__init__.py", "tests/bpf"):
        files[name] = ROOT / name
    files["tests/vectors"] = ROOT / "tests/vectors"
    push(lab, machine, DIRECTORY, files)
    return DIRECTORY


def test_the_kernel_is_the_releases_own(lab: Lab, machine: str) -> None:
    assert lab.run(machine, "uname -r").startswith(MACHINES[machine])


def test_every_program_loads(lab: Lab, machine: str, pushed: str) -> None:
    """With libbpf and Python of the release, nothing else: as on a host at its first play."""
    loaded = lab.run(machine, f"cd {pushed} && python3 - objects/*.o", LOAD)
    assert "objects/brine.bpf.o" in loaded
    assert len(loaded.splitlines()) == len(SOURCES) + 1


def test_the_programs_do_there_what_they_do_here(lab: Lab, machine: str, pushed: str) -> None:
    """Vectors, packets and verdicts, from whole networks to single primitives."""
    files = " ".join(f"tests/bpf/test_{name}.py" for name in ASKED)
    lab.run(
        machine,
        f"cd {pushed} && BRINE_OBJECTS=$PWD/objects python3 -m pytest -q -p no:cacheprovider"
        f" {files}",
    )
