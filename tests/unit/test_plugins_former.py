# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept until its successor has shown that it works: an upgrade that is run again after it
was cut short must neither take what it has installed for the former, nor whom it has cut off for
one that was off before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.brine.mesh.plugins.modules import former


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "venvs/old").mkdir(parents=True)
    (tmp_path / "venvs/new").mkdir()
    (tmp_path / "venv").symlink_to("venvs/old")
    (tmp_path / "object").write_text("old")
    return tmp_path


def keep(root: Path, answered: list[str]) -> None:
    former.keep(root / "former", root / "venv", [root / "object"], answered)


def kept(root: Path) -> list[str]:
    found: list[str] = json.loads((root / "former" / former.ANSWERED).read_text())
    return found


def replace(root: Path) -> None:
    (root / "venv").unlink()
    (root / "venv").symlink_to("venvs/new")
    (root / "object").write_text("new")


def test_what_was_kept_first_counts(root: Path) -> None:
    keep(root, ["web2", "web3"])
    replace(root)
    keep(root, ["web2"])
    assert kept(root) == ["web2", "web3"]
    former.restore(root / "former", root / "venv", [root / "object"])
    assert (root / "object").read_text() == "old"
    assert (root / "venv").resolve().name == "old"


def test_copies_that_were_interrupted_are_made_anew(root: Path) -> None:
    keep(root, ["web3"])
    (root / "former" / former.COMPLETE).unlink()
    (root / "object").write_text("now")
    keep(root, ["web2"])
    assert kept(root) == ["web2"]
    assert (root / "former/object").read_text() == "now"
