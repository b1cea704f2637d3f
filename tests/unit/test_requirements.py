# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates' own pins, where two files must have the same versions."""

from __future__ import annotations

import re
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "scripts/collection"


def pins(text: str) -> dict[str, str]:
    """Version by package, in the spelling that pip-compile uses."""
    found = re.findall(r"^([\w.-]+) ?== ?([\w.]+)", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


@pytest.mark.parametrize("package", ["ansible-core", "ansible-lint", "antsibull-changelog"])
def test_both_environments_judge_by_the_same_tools(package: str) -> None:
    ours = pins((ROOT / "requirements-dev.txt").read_text())
    assert pins((COLLECTION / "requirements.txt").read_text())[package] == ours[package]
    assert metadata.version(package) == ours[package]


def test_what_ansible_test_asks_for_is_what_was_fetched_for_it() -> None:
    """Renew scripts/collection/sanity.txt as sanity.in says."""
    asked: dict[str, str] = {}
    folder = resources.files("ansible_test") / "_data/requirements"
    for file in folder.iterdir():
        if re.fullmatch(r"sanity\..+\.txt", file.name):
            asked.update(pins(file.read_text()))
    fetched = pins((COLLECTION / "sanity.txt").read_text())
    bootstrap = resources.files("ansible_test") / "_internal/python_requirements.py"
    assert f"pip='{fetched.pop('pip')}'" in bootstrap.read_text()
    assert fetched == asked
