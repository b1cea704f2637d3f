# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a user has it: built, installed elsewhere, nothing from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.labs import HOSTS, ROOT, Lab


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's archive."""
    directory = tmp_path_factory.mktemp("archive")
    subprocess.run(
        ["ansible-galaxy", "collection", "build", "--output-path", str(directory), str(ROOT)],
        check=True,
    )
    (built,) = directory.glob("brine-mesh-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def elsewhere(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of a user's own, with the collection and an inventory in it."""
    directory = tmp_path_factory.mktemp("elsewhere")
    (directory / "ansible.cfg").touch()  # the defaults, nothing of ours
    subprocess.run(
        [
            *("ansible-galaxy", "collection", "install", "--offline"),
            *("--collections-path", str(directory / "collections"), str(archive)),
        ],
        check=True,
        cwd=directory,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            # make points this at the checkout, where the collection would count as installed.
            "ANSIBLE_COLLECTIONS_PATH": str(directory / "collections"),
        },
    )
    shutil.copytree(ROOT / "inventories/lab", directory / "inventory")
    return directory


def test_the_archive_holds_what_a_user_needs_and_no_more(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[0] for name in tar.getnames()}
    assert names == {
        *("FILES.json", "MANIFEST.json", "LICENSE", "LICENSES", "README.md", "CHANGELOG.md"),
        *("bpf", "brine", "changelogs", "docs", "inventories", "meta", "playbooks", "plugins"),
        *("pyproject.toml", "roles"),
    }


def test_the_mesh_comes_up_from_it(lab: Lab, elsewhere: Path) -> None:
    user = Lab(lab.name, elsewhere / "inventory")
    environment = {
        "ANSIBLE_CONFIG": str(elsewhere / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(elsewhere / "collections"),
        "ANSIBLE_INJECT_FACT_VARS": "False",
        # Nothing is in these, as on another machine: all must come from the collection.
        "HOME": str(elsewhere / "home"),
    }
    (elsewhere / "home").mkdir()
    played = user.play("brine.mesh.site", environment=environment, directory=elsewhere)
    assert played.status == 0, played.output
    assert str(ROOT) not in played.output
    again = user.play("brine.mesh.site", environment=environment, directory=elsewhere)
    assert again.status == 0, again.output
    assert again.changed() == dict.fromkeys(HOSTS, 0), again.output
    shown = user.play("brine.mesh.status", environment=environment, directory=elsewhere)
    assert shown.status == 0, shown.output
    assert shown.output.count("running  native") == len(HOSTS)
