# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles, modules and playbooks say of themselves, held against what they do."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

import brine

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
VERBS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
SETTING = re.compile(rf"(?<![\w./])(?:{'|'.join((*ROLES, *VERBS))})_[a-z_]*[a-z](?![\w(./])")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "roles/*/README.md", "inventories/example/**/*.yml")
    for path in ROOT.glob(pattern)
)
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))


def load(path: Path) -> t.Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def options(role: str) -> dict[str, t.Any]:
    specs = load(ROOT / "roles" / role / "meta/argument_specs.yml")
    found: dict[str, t.Any] = specs["argument_specs"]["main"]["options"]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_equal_defaults(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults/main.yml") or {}
    specified = {
        name: option["default"] for name, option in options(role).items() if "default" in option
    }
    assert specified == defaults


@pytest.mark.parametrize("role", ROLES)
def test_options_bear_the_name_of_their_role(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in options(role))


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_that_a_role_reads_is_specified(role: str) -> None:
    known = set(options(role)) | set(options("brine"))
    text = "".join(
        path.read_text()
        for kind in ("tasks", "templates", "vars", "handlers")
        for path in (ROOT / "roles" / role / kind).glob("*")
    )
    assert set(re.findall(r"\bbrine_[a-z_]+", text)) <= known


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_readme_shows_its_settings(role: str) -> None:
    wanted = [
        (name, option["type"], shown_default(option)) for name, option in options(role).items()
    ]
    text = (ROOT / "roles" / role / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", text, re.MULTILINE) == wanted


def shown_default(option: dict[str, t.Any]) -> str:
    if "default" in option:
        return f"`{json.dumps(option['default'])}`"
    return "required" if option.get("required") else "none"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_a_document_names_exists(path: Path) -> None:
    """Settings are those of the roles, and what a playbook takes from its command line; results
    are what the roles register."""
    known = {name for role in ROLES for name in options(role)}
    for pattern in ("playbooks/*.yml", "roles/*/tasks/*.yml"):
        known.update(*(SETTING.findall(book.read_text()) for book in ROOT.glob(pattern)))
    built, _heading, _planned = path.read_text().partition("## Specified, not built yet")
    assert set(SETTING.findall(built)) <= known


@pytest.mark.parametrize("playbook", ["peers", "site", "uninstall", "verify"])
def test_a_play_validates_what_roles_share_and_no_more(playbook: str) -> None:
    """Each such task costs time on every host, and what they do not share is empty, or such as
    their module checks too."""
    listed = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", "inventories/lab", "--list-tasks", f"playbooks/{playbook}.yml"),
        ],
        check=True,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    roles = re.findall(r"brine\.mesh\.(\w+) : Validating arguments", listed)
    assert set(roles) == {"brine"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_takes_the_options_that_it_documents(module: str) -> None:
    path = ROOT / "plugins/modules" / f"{module}.py"
    documented = documentation(path, "DOCUMENTATION").get("options") or {}
    action = ROOT / "plugins/action" / f"{module}.py"
    accepted = argument_spec(action if action.exists() else path)
    assert set(accepted) == set(documented)
    for name, option in accepted.items():
        assert option.get("default") == documented[name].get("default"), name
        assert option.get("required", False) == documented[name].get("required", False), name
        assert option.get("type", "str") == documented[name]["type"], name
        assert option.get("choices") == documented[name].get("choices"), name


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_how_it_behaves_in_check_mode(module: str) -> None:
    path = ROOT / "plugins/modules" / f"{module}.py"
    given = documentation(path, "DOCUMENTATION")
    attributes = dict(given.get("attributes") or {})
    for fragment in given.get("extends_documentation_fragment") or []:
        part = fragment.split(".")[3].upper() if fragment.count(".") == 3 else "DOCUMENTATION"
        shared = documentation(ROOT / "plugins/doc_fragments/host.py", part)
        attributes.update(shared.get("attributes") or {})
    assert {"check_mode", "diff_mode"} <= set(attributes)


def documentation(path: Path, name: str) -> dict[str, t.Any]:
    """The YAML that the module or class at `path` assigns to `name`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            found: dict[str, t.Any] = yaml.safe_load(ast.literal_eval(node.value))
            return found
    raise AssertionError(f"{path} has no {name}")


def argument_spec(path: Path) -> dict[str, t.Any]:
    """The literal of the keyword `argument_spec`; what is not literal in it is left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "argument_spec":
            if not isinstance(node.value, ast.Dict):
                return {}
            return {
                ast.literal_eval(key): ast.literal_eval(value)
                for key, value in zip(node.value.keys, node.value.values, strict=True)
                if key is not None
            }
    raise AssertionError(f"{path} has no argument_spec")


def test_package_and_collection_have_one_version() -> None:
    assert load(ROOT / "galaxy.yml")["version"] == brine.__version__
