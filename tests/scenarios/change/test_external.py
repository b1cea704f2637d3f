# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer that the mesh's inventory does not manage: lab4 is the only host of another inventory,
with a public-key store of its own. Each side knows of the other what it was told."""

from __future__ import annotations

import json
import shutil
import typing as t
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.labs import HOSTS, Lab

PEERS = "playbooks/peers.yml"
FAR = "far"  # what the mesh calls lab4


def external(lab: Lab, names: dict[str, str]) -> list[dict[str, t.Any]]:
    """`brine_external_peers`: hosts of the lab, under the names that they get."""
    found = []
    for host, name in names.items():
        status = lab.status(host)
        found.append(
            {
                "name": name,
                "public_key": status["public_key"],
                "endpoint": f"{lab.endpoint(host)}:{status['port']}",
                "addresses": status["addresses"],
            }
        )
    return found


@pytest.fixture(scope="module")
def far(mesh: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """lab4 as its own operator has it, who was told of the mesh."""
    directory = tmp_path_factory.mktemp("far")
    shutil.copytree(mesh.inventory / "group_vars", directory / "group_vars")
    host = {
        "brine_endpoint": mesh.endpoint("lab4"),
        "brine_addresses": [mesh.address("lab4")],
        "brine_public_key_store": str(directory / "public_keys"),
        "brine_external_peers": external(mesh, {host: host for host in HOSTS}),
    }
    inventory = {"lab": {"children": {"brine": {"hosts": {"lab4": host}}}}}
    (directory / "hosts.yml").write_text(json.dumps(inventory))
    lab = Lab(mesh.name, directory / "hosts.yml")
    # Nobody in the mesh knows it yet.
    played = lab.play("site.yml", "-e", "verify_peers_per_host=0")
    assert played.status == 0, played.output
    return lab


def ping(lab: Lab, source: str, targets: Iterable[str]) -> None:
    """From a host to every address of others, both families, small and as large as goes."""
    for target in targets:
        for address in lab.status(target)["addresses"]:
            lab.run(source, f"ping -c 2 -i 0.2 -W 10 {address}")
            lab.run(source, f"ping -c 2 -i 0.2 -W 10 -s 1372 -M do {address}")


def test_packets_pass_both_ways(mesh: Lab, far: Lab, tmp_path: Path) -> None:
    assert mesh.reached("lab4", 3) == set()  # given a key only, it is let in by nobody
    inventory = tmp_path / "external.yml"
    told = {"brine_external_peers": external(mesh, {"lab4": FAR})}
    inventory.write_text(json.dumps({"brine": {"vars": told}}))
    played = mesh.play(PEERS, inventories=[inventory])
    assert played.status == 0, played.output
    assert played.changed().keys() == set(HOSTS)
    assert all(played.changed().values())
    for host in HOSTS:
        assert mesh.reached(host) == {*HOSTS, FAR} - {host}
        ping(mesh, host, ["lab4"])
    assert mesh.reached("lab4") == set(HOSTS)
    ping(mesh, "lab4", HOSTS)
    for peer in mesh.status("lab4")["peers"]:
        assert peer["sent_packets"] > 0
        assert peer["received_packets"] > 0
    for again in (mesh.play(PEERS, inventories=[inventory]), far.play("site.yml")):
        assert again.status == 0, again.output
        assert set(again.changed().values()) == {0}, again.output


@pytest.mark.usefixtures("far")
def test_it_is_let_in_no_longer(mesh: Lab) -> None:
    played = mesh.play(PEERS)
    assert played.status == 0, played.output
    for host in HOSTS:
        assert {peer["name"] for peer in mesh.status(host)["peers"]} == set(HOSTS) - {host}
    assert mesh.reached("lab4", 3) == set()
