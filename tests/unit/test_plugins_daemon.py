# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the daemon that runs is the one that is installed: a process is asked, no note."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.brine.mesh.plugins.module_utils import daemon

ROLE = Path(__file__).resolve().parents[2] / "roles/exchange"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of two environments."""
    for name in ("old", "new"):
        binaries = tmp_path / "venvs" / name / "bin"
        binaries.mkdir(parents=True)
        (binaries / "python").symlink_to(sys.executable)
    return tmp_path


@contextlib.contextmanager
def running(root: Path, environment: str, variables: dict[str, str]) -> Iterator[int]:
    """A process as systemd starts the daemon; it has begun to run."""
    python = root / "venvs" / environment / "bin/python"
    code = "print(flush=True); input()"
    with subprocess.Popen(
        [str(python), "-I", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize("environment", ["old", "new"])
def test_a_process_tells_its_environment(root: Path, environment: str) -> None:
    with running(root, environment, {}) as pid:
        assert daemon.environment(pid, root) == str(root / "venvs" / environment)
        assert daemon.environment(pid, root / "elsewhere") is None
    assert daemon.environment(pid, root) is None


@pytest.mark.parametrize(
    ("variables", "unit"),
    [
        ({"BRINED_UNIT": "cafe", "LANG": "C"}, "cafe"),
        ({"LANG": "C", "BRINED_UNIT": "beef"}, "beef"),
        ({"NOT_BRINED_UNIT": "cafe"}, None),  # by a unit of before there was the variable
    ],
)
def test_a_process_tells_its_unit(root: Path, variables: dict[str, str], unit: str | None) -> None:
    with running(root, "new", variables) as pid:
        assert daemon.unit(pid) == unit
    assert daemon.unit(pid) is None


def test_a_units_file_tells_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "brined.service"
    assert daemon.installed_unit(path) is None
    path.write_text("[Service]\nExecStart=true\n")
    assert daemon.installed_unit(path) is None
    path.write_text("[Service]\nEnvironment=BRINED_UNIT=cafe\nExecStart=true\n")
    assert daemon.installed_unit(path) == "cafe"


def digest(text: str, kind: str) -> str:
    """As Ansible's filter `hash`."""
    return hashlib.new(kind, text.encode()).hexdigest()


def test_the_unit_has_its_templates_digest(tmp_path: Path) -> None:
    """So that any change of the template shows in the process."""
    template = ROLE / "templates/brined.service.j2"
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["hash"] = digest
    text = environment.from_string(template.read_text()).render(
        ansible_managed="managed",
        role_path=str(ROLE),
        lookup=lambda _name, path: Path(path).read_text().rstrip(),
    )
    unit = tmp_path / "brined.service"
    unit.write_text(text)
    assert daemon.installed_unit(unit) == digest(template.read_text().rstrip(), "sha256")


def test_the_role_asks_before_it_decides() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    names = [next(key for key in task if "." in key) for task in tasks]
    asked, decided = names.index("brine.mesh.daemon"), len(tasks) - 1
    assert tasks[asked]["register"] == "exchange_daemon"
    assert "exchange_daemon.stale" in tasks[decided]["ansible.builtin.systemd_service"]["state"]
    assert asked < decided
