# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault of an inventory is said once, clearly, before any host is touched."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs import HOSTS, Lab

KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def untouched(lab: Lab) -> Iterator[None]:
    """Holds each test to it that the hosts stay as they were."""

    def state() -> dict[str, str]:
        look = "ls -ld --time-style=full-iso /etc /opt /etc/systemd/system; find /opt /etc/brine"
        return {host: lab.run(host, f"{look} 2>&1; true") for host in HOSTS}

    before = state()
    yield
    assert state() == before


def refused(lab: Lab, directory: Path, inventory: str, *arguments: str) -> str:
    """Play with more inventory, which must be refused; returns the report."""
    path = directory / "more.yml"
    path.write_text(inventory)
    played = lab.play("site.yml", *arguments, inventories=[path])
    assert played.status != 0, played.output
    assert sum(played.changed().values()) == 0, played.output
    assert "No host was touched" in played.output, played.output
    assert "Install the mesh" not in played.output
    # The message is shown once as the error and once with the task's result.
    return played.output


def host_variables(host: str, **variables: str) -> str:
    lines = [f"        {name}: {value}\n" for name, value in variables.items()]
    return f"brine:\n  hosts:\n    {host}:\n{''.join(line[2:] for line in lines)}"


def test_two_hosts_with_one_address(lab: Lab, tmp_path: Path) -> None:
    more = host_variables("lab2", brine_addresses="[10.77.0.11]")
    output = refused(lab, tmp_path, more)
    assert "lab1, lab2 have the same address 10.77.0.11" in output
    assert "Preflight found: 1 problem" in output


def test_unknown_interface(lab: Lab, tmp_path: Path) -> None:
    output = refused(lab, tmp_path, host_variables("lab3", brine_interface="ens9"))
    assert "there is no interface ens9" in output
    assert "set brine_interface to one of: eth0" in output


def test_mtu_too_small(lab: Lab, tmp_path: Path) -> None:
    output = refused(lab, tmp_path, host_variables("lab1", brine_mtu="1480"))
    assert "eth0 has an MTU of 1500; brine0 with 1480 needs 1560" in output


def test_missing_public_key_outside_limit(lab: Lab, tmp_path: Path) -> None:
    output = refused(lab, tmp_path, "", "--limit", "lab1")
    assert "Preflight found: 2 problems" in output
    assert output.count("the store has none for it, and this run does not make it") >= 2
    assert "run the play once with lab3 in --limit" in output


def test_malformed_key(lab: Lab, tmp_path: Path) -> None:
    for host in HOSTS:
        (tmp_path / f"{host}.txt").write_text(f"{base64.b64encode(host.encode() * 8).decode()}\n")
    (tmp_path / "lab2.txt").write_text("c2hvcnQ=\n")
    output = refused(lab, tmp_path, "", "-e", f"brine_public_key_store={tmp_path}")
    assert f"{tmp_path}/lab2.txt has 5 bytes instead of 32" in output


def test_all_faults_are_in_one_report(lab: Lab, tmp_path: Path) -> None:
    more = (
        "brine:\n  hosts:\n"
        "    lab1: {brine_interface: nic, brine_endpoint: 10.77.1.1}\n"
        "    lab2: {brine_port: 0}\n"
        "    lab3: {brine_addresses: [192.0.2.1]}\n"
    )
    output = refused(lab, tmp_path, more)
    for cause in (
        "there is no interface nic",
        "its endpoint 10.77.1.1 lies in brine_networks",
        "brine_port is 0",
        "192.0.2.1 is in none of brine_networks",
    ):
        assert cause in output


def test_a_host_without_an_interface_stops_all(lab: Lab, tmp_path: Path) -> None:
    played = lab.play("site.yml", "-e", '{"brine_interface": null}')
    assert played.status != 0
    assert "brine_interface" in played.output
    assert sum(played.changed().values()) == 0


def test_a_mesh_secret_is_never_shown(lab: Lab, tmp_path: Path) -> None:
    more = host_variables("lab2", brine_mesh_secret=f"'{KEY}'")
    output = refused(lab, tmp_path, more, "-vvv")
    assert "brine_mesh_secret differs between hosts" in output
    assert KEY not in output
