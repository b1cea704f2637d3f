# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated hosts answer as real ones do: their answers, held against the code and the units that
they stand in for."""

from __future__ import annotations

import ast
import inspect
import shlex
import textwrap
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest

from brine import dataplane, identity, loader, reconcile, status
from brine.config import Config, Paths
from tests.fleet import commands, module, show
from tests.fleet.kernel import Kernel
from tests.fleet.root import SimulatedHost
from tests.labs import ROOT

UNITS = sorted(path.stem for path in ROOT.glob("roles/*/templates/*.service.j2"))
SUDO = (
    "/bin/sh -c 'sudo -H -S -n  -u root /bin/sh -c '\"'\"'"
    "echo BECOME-SUCCESS-abc ; /usr/bin/python3'\"'\"' && sleep 0'"
)


def answered(function: Callable[..., t.Any]) -> set[str]:
    """The keys of the object that the real function returns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (returned,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
    )
    return {ast.literal_eval(key) for key in returned.keys if key is not None}


def setting(line: str) -> tuple[str, str, str]:
    return line.partition("=")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(SimulatedHost(tmp_path, "web1"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    directory = tmp_path / "brine"
    directory.mkdir()
    (directory / "brine.bpf.o").write_bytes(b"an object")
    return Config(
        bpffs=directory,
        copy_dscp=False,
        interface="eth0",
        kernel_derivation=True,
        max_peers=64,
        mtu=None,
        object=directory / "brine.bpf.o",
        port=4747,
        roaming=False,
        xdp_mode="auto",
        paths=Paths(directory, directory, directory),
    )


def test_the_data_path_answers_with_the_same_fields(kernel: Kernel, config: Config) -> None:
    predicted = kernel.apply_dataplane(config, check=True)
    made = kernel.apply_dataplane(config, check=False)
    again = kernel.apply_dataplane(config, check=False)
    for answer in (predicted, made, again):
        assert answer.keys() == answered(dataplane.apply)
    assert predicted["changed"]
    assert made["changed"]
    assert not again["changed"]
    assert loader.digest(config.object) in made["diff"]["after"]


def test_peers_are_answered_by_the_real_code() -> None:
    assert "reconcile._answer(" in inspect.getsource(Kernel.apply_peers)
    assert inspect.signature(reconcile.apply).parameters.keys() == set(
        list(inspect.signature(Kernel.apply_peers).parameters)[1:]
    )


def test_status_has_no_field_that_the_real_one_lacks(kernel: Kernel, config: Config) -> None:
    identity.ensure(config.paths, check=False)
    config.paths.roster.write_text('{"version": 1, "networks": [], "peers": []}')
    assert kernel.status(config).keys() <= answered(status.collect)


@pytest.mark.parametrize("unit", UNITS)
def test_recorded_units_are_those_of_the_roles(unit: str) -> None:
    (template,) = ROOT.glob(f"roles/*/templates/{unit}.j2")
    recorded = show.recorded(unit)
    assert f"Id={unit}" in recorded
    for name, _equals, value in map(setting, template.read_text().splitlines()):
        if name in ("Description", "OOMScoreAdjust", "Restart", "Type"):
            assert f"{name}={value}" in recorded
        if name in ("ExecStart", "ExecReload"):
            words = " ".join(shlex.split(value))
            assert any(line.startswith(name) and f"={words} ;" in line for line in recorded)
    for active in (True, False):
        shown = show.show(unit, active, enabled=True, pid=7)
        assert f"ActiveState={'active' if active else 'inactive'}\n" in shown
        assert "UnitFileState=enabled\n" in shown
        assert "MainPID=7\n" in shown


def test_there_is_a_record_for_every_unit() -> None:
    recorded = Path(show.__file__).with_name("recorded")
    assert sorted(path.stem for path in recorded.iterdir()) == UNITS


@pytest.mark.parametrize(
    "command",
    [
        "uptime",
        "systemctl stop sshd",
        "systemctl mask brined.service",
        "/opt/brine/venv/bin/brine dataplane remove --json",
        "/opt/brine/venv/bin/python -m http.server",
    ],
)
def test_unknown_commands_are_errors(kernel: Kernel, command: str) -> None:
    with pytest.raises(commands.Unknown):
        commands.Commands(kernel, None, 1).run(command)


@pytest.mark.parametrize(
    ("asked", "root", "line"),
    [
        ("/bin/sh -c '/usr/bin/python3 && sleep 0'", False, "/usr/bin/python3"),
        (
            SUDO,
            True,
            "/usr/bin/python3",
        ),
        ("/bin/sh -c 'echo ~admin && sleep 0'", False, "echo ~admin"),
    ],
)
def test_what_the_controller_asks_of_ssh(asked: str, root: bool, line: str) -> None:
    assert module.parse(asked) == (root, line)


@pytest.mark.parametrize("asked", ["reboot", "/bin/sh -c 'sudo -u nobody /bin/sh -c true'"])
def test_nothing_else_is_asked_of_ssh(asked: str) -> None:
    with pytest.raises(commands.Unknown):
        module.parse(asked)
