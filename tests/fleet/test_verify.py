# SPDX-License-Identifier: GPL-3.0-or-later
"""`verify.yml` on simulated hosts: when it fails for members that do not answer, and when not."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import Fleet
from tests.labs import Played

VERIFY = "playbooks/verify.yml"
WARN = ("-e", "verify_absent=warn")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), 3) as fleet:
        played, _ = fleet.play()
        assert played.status == 0, played.output
        yield fleet


@contextlib.contextmanager
def off(fleet: Fleet, names: list[str]) -> Iterator[None]:
    files = [fleet.host(name).directory / "off" for name in names]
    for file in files:
        file.touch()
    yield
    for file in files:
        file.unlink()


def failed(played: Played) -> set[str]:
    """The hosts that the play failed on."""
    return {host for host, figures in played.recap().items() if figures["failed"]}


def test_one_that_is_off_may_be_only_warned_of(mesh: Fleet) -> None:
    with off(mesh, mesh.names[2:]):
        played, _ = mesh.play(*WARN, playbook=VERIFY)
    assert played.status == 0, played.output
    assert f"{mesh.names[2]}: absent:" in played.output


def test_a_play_that_nobody_answers_fails(mesh: Fleet) -> None:
    """As from a controller without a network, whatever else is only warned of."""
    with off(mesh, mesh.names):
        played, _ = mesh.play(*WARN, playbook=VERIFY)
    assert played.status != 0, played.output
    assert failed(played) == set(mesh.names)
    assert "3 problems" in played.output
    assert "Well: none" in played.output


def test_one_that_ansible_alone_cannot_reach_fails_the_play(mesh: Fleet) -> None:
    name = mesh.names[1]
    variables = mesh.inventory / "host_vars" / f"{name}.yml"
    variables.parent.mkdir()
    variables.write_text(
        "ansible_connection: ssh\nansible_ssh_common_args: -o ProxyCommand=false\n"
    )
    played, _ = mesh.play(*WARN, playbook=VERIFY)
    variables.unlink()
    assert played.status != 0, played.output
    assert failed(played) == {name}
    assert "connection: it does not answer Ansible, though" in played.output


def test_meshes_keep_their_journals_apart(mesh: Fleet, tmp_path: Path) -> None:
    """Of hosts of one name, which only the place of their keys tells apart."""
    name = mesh.names[0]
    running = mesh.host(name).daemon / "cmdline"
    kept = running.read_bytes()
    running.unlink()
    cache = ("-e", f"brine_cache={tmp_path}")
    first, _ = mesh.play(*cache, playbook=VERIFY)
    second, _ = mesh.play(
        *cache, "-e", f"brine_public_key_store={tmp_path}/other/public_keys", playbook=VERIFY
    )
    running.write_bytes(kept)
    places = [logs(first), logs(second)]
    assert [place.parent for place in places] == [tmp_path / "logs"] * 2
    assert places[0].name.startswith(f"{mesh.inventory.name}-")
    assert places[1].name.startswith("other-")
    for place in places:
        assert "a journal of a simulated host" in (place / f"{name}.log").read_text()


def logs(played: Played) -> Path:
    """Where a play that failed says it has put journals."""
    assert played.status != 0, played.output
    told = re.search(r"Logs of these hosts are in (\S+)", played.output)
    assert told is not None, played.output
    return Path(told.group(1))
