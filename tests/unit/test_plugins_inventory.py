# SPDX-License-Identifier: GPL-3.0-or-later
"""The public-key store beside an inventory: Ansible must not take it for one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.brine.mesh.plugins.plugin_utils.store import Store, show_key

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = {"app1.example.com", "app2.example.com", "db1.example.com", "gateway1.example.com"}
MEMBERS |= {"db2.example.com", "laptop1.example.com"}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with a store in which there is a file of each kind."""
    directory = tmp_path_factory.mktemp("mesh") / "my-inventory"
    shutil.copytree(ROOT / "inventories/example", directory)
    store = Store(directory / "public_keys")
    kinds = ("current", "next"), ("current", "previous"), ("current",)
    for number, (host, which) in enumerate(zip(sorted(MEMBERS), kinds, strict=False)):
        store.write(store.put(host, {one: show_key(bytes([number + 1]) * 32) for one in which}))
    store.write(store.remove("db1.example.com"))
    assert {"".join(path.suffixes[2:]) for path in store.directory.iterdir()} == {
        *(".txt", ".next.txt", ".previous.txt", ".removed.txt")
    }
    return directory


def documented() -> str:
    """The configuration that docs/operations.md tells those who name a directory."""
    text = (ROOT / "docs/operations.md").read_text()
    (found,) = re.findall(r"^```ini\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.parametrize(
    ("source", "configuration"),
    [
        ("hosts.yml", "[inventory]\nany_unparsed_is_failed = true\n"),
        (".", documented() + "any_unparsed_is_failed = true\n"),
        (".", (ROOT / "ansible.cfg").read_text()),
    ],
    ids=["file", "directory", "checkout"],
)
def test_ansible_reads_the_inventory_and_nothing_else(
    inventory: Path, tmp_path: Path, source: str, configuration: str
) -> None:
    (tmp_path / "ansible.cfg").write_text(configuration)
    done = subprocess.run(
        [sys.executable, "-m", "ansible.cli.inventory", "-i", str(inventory / source), "--list"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")},
    )
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert set(listed["brine"]["hosts"]) == MEMBERS
    assert set(listed) == {"_meta", "all", "brine"}
    assert listed["_meta"]["hostvars"]["db1.example.com"]["brine_interface"] == "enp2s0"
    assert listed["_meta"]["hostvars"]["app1.example.com"]["brine_interface"] == "eth0"
