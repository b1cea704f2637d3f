# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups that may talk to groups: hosts that no pair links are no peers, whatever one of them
does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.labs import BRINE, HOSTS, Frame, Lab

PEERS = "playbooks/peers.yml"
INITIATION = 1  # bpf/wire.h
Linked = Callable[[list[list[str]]], Path]


@pytest.fixture
def linked(tmp_path: Path) -> Linked:
    """Writes the inventory that links groups: `web` is lab1, `db` are the others."""

    def write(links: list[list[str]]) -> Path:
        path = tmp_path / "links.yml"
        path.write_text(
            "web: {hosts: {lab1: {}}}\n"
            "db: {hosts: {lab2: {}, lab3: {}}}\n"
            f"brine: {{vars: {{brine_links: {json.dumps(links)}}}}}\n"
        )
        return path

    return write


def peers(lab: Lab) -> dict[str, set[str]]:
    """The peers in the maps of each host."""
    return {host: {peer["name"] for peer in lab.status(host)["peers"]} for host in HOSTS}


def between(lab: Lab, frames: list[Frame], source: str, target: str) -> list[bytes]:
    """What brine of one host sent to another, by the captured frames."""
    ends = b"".join(bytes(map(int, lab.endpoint(name).split("."))) for name in (source, target))
    payloads = [frame.udp_payload for frame in frames if frame.data[26:34] == ends]
    return [payload for payload in payloads if payload]


def silent(lab: Lab, source: str, target: str) -> None:
    """Hold a host to it that no packet of it comes back from another."""
    for address in lab.status(target)["addresses"]:
        assert lab.try_(source, f"ping -c 2 -i 0.2 -W 2 {address}").returncode != 0


def test_hosts_that_are_not_linked_are_no_peers(mesh: Lab, linked: Linked) -> None:
    more = [linked([["web", "db"]])]
    assert mesh.reached("lab2") == {"lab1", "lab3"}
    played = mesh.play(PEERS, inventories=more)
    assert played.status == 0, played.output
    assert all(played.changed().values())
    assert peers(mesh) == {"lab1": {"lab2", "lab3"}, "lab2": {"lab1"}, "lab3": {"lab1"}}
    for host, others in peers(mesh).items():
        assert mesh.reached(host) == others
    # Neither has an association or a route for the other: nothing is sent at all.
    before = {host: mesh.status(host)["drops"]["seal_no_route"] for host in HOSTS}
    with mesh.wire() as frames:
        silent(mesh, "lab2", "lab3")
        silent(mesh, "lab3", "lab2")
    for one, other in (("lab2", "lab3"), ("lab3", "lab2")):
        assert between(mesh, frames, one, other) == []
        assert mesh.status(one)["drops"]["seal_no_route"] > before[one]


FREE = """
import json
path = "/etc/brine/roster.json"
roster = json.load(open(path))
del roster["links"]
json.dump(roster, open(path, "w"))
"""


def test_one_that_minds_no_links_reaches_nobody_more(mesh: Lab, linked: Linked) -> None:
    """lab2 takes lab3 for a peer. It is alone with that: lab3 answers none of its exchanges."""
    assert peers(mesh)["lab2"] == {"lab1"}
    mesh.run("lab2", "cp --archive /etc/brine/roster.json /root/roster.json")
    mesh.python("lab2", FREE)
    mesh.run("lab2", f"{BRINE} peers apply")
    assert peers(mesh)["lab2"] == {"lab1", "lab3"}
    with mesh.wire() as frames:
        silent(mesh, "lab2", "lab3")
    sent = between(mesh, frames, "lab2", "lab3")
    assert sent
    assert {payload[0] for payload in sent} == {INITIATION}
    assert between(mesh, frames, "lab3", "lab2") == []
    mesh.run("lab2", f"mv /root/roster.json /etc/brine/ && {BRINE} peers apply")
    again = mesh.play("site.yml", inventories=[linked([["web", "db"]])])
    assert again.status == 0, again.output
    assert again.changed() == dict.fromkeys(HOSTS, 0), again.output


def test_links_can_be_changed_at_any_time(mesh: Lab, linked: Linked) -> None:
    more = [linked([["db", "db"]])]
    (path,) = more
    path.write_text(path.read_text().replace("{lab1: {}}", "{}"))
    played = mesh.play("site.yml", inventories=more)
    assert played.status == 0, played.output
    assert all(played.changed().values())
    assert peers(mesh) == {"lab1": set(), "lab2": {"lab3"}, "lab3": {"lab2"}}
    assert mesh.reached("lab2") == {"lab3"}
    assert mesh.reached("lab3") == {"lab2"}
    silent(mesh, "lab1", "lab2")
    silent(mesh, "lab3", "lab1")
    again = mesh.play(PEERS, inventories=more)
    assert again.status == 0, again.output
    assert again.changed() == dict.fromkeys(HOSTS, 0), again.output


def test_without_links_all_may_talk_to_all(mesh: Lab) -> None:
    played = mesh.play(PEERS)
    assert played.status == 0, played.output
    assert all(played.changed().values())
    for host in HOSTS:
        assert mesh.reached(host) == set(HOSTS) - {host}
