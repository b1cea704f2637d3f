# SPDX-License-Identifier: GPL-3.0-or-later
"""Identities rotate while packets flow between all hosts: none is lost, whatever happens to the
play. One rotation after the other on one mesh; figures are printed (pytest -rP)."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bpf.loaded import build
from tests.labs import BRINE, HOSTS, Lab
from tests.probing import probing

ROTATE = "playbooks/rotate_keys.yml"
SOON = ("-e", "rotate_keys_soak=2")

# Where the play is killed, in its order: a line of its output, and how often it has come by then.
STEPS = [
    ("TASK [Make the next key pair]", 1),
    ("TASK [Put it into the store]", 1),
    ("TASK [brine.mesh.peers : Write the roster]", 1),
    ("TASK [brine.mesh.peers : Reconcile the peers]", 1),
    ("TASK [Use the next identity, or the former one again]", 1),
    ("TASK [Put what is in use into the store]", 1),
    ("TASK [brine.mesh.gate : Look whether the host is well]", 1),
    ("TASK [Use the next identity, or the former one again]", 2),
    ("TASK [Put what is in use into the store]", 3),
    ("TASK [brine.mesh.peers : Reconcile the peers]", 2),
    ("TASK [Wait]", 1),
    ("TASK [Forget the identity that is not in use]", 1),
]


@pytest.fixture(autouse=True)
def whole(mesh: Lab) -> Iterator[None]:
    """After each test every host has one identity, which the store and all rosters have."""
    yield
    for host in HOSTS:
        found = identities(mesh, host)
        assert found["state"] == "single"
        assert (mesh.store / f"{host}.txt").read_text().strip() == found["public_key"]
        answer = json.loads(mesh.run(host, f"{BRINE} verify --peers 2 --seconds 30 --json"))
        assert answer["findings"] == []
    assert sorted(path.name for path in mesh.store.iterdir()) == [f"{name}.txt" for name in HOSTS]
    assert len({mesh.run(host, "sha256sum /etc/brine/roster.json") for host in HOSTS}) == 1


def identities(lab: Lab, host: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(lab.run(host, f"{BRINE} identity status --json"))
    return found


def public_keys(lab: Lab) -> dict[str, str]:
    return {host: identities(lab, host)["public_key"] for host in HOSTS}


def test_all_identities_rotate_and_nothing_is_lost(mesh: Lab) -> None:
    before = public_keys(mesh)
    with probing(mesh) as count:
        played = mesh.play(ROTATE, "-vvv", "--diff", "-e", "rotate_keys_soak=2")
    print(count)
    assert played.status == 0, played.output
    assert count.lost == count.duplicated == 0
    assert count.sent > 100_000
    after = public_keys(mesh)
    assert not set(before.values()) & set(after.values())
    for host in HOSTS:
        for peer in mesh.status(host)["peers"]:
            assert peer["association"]["own_key_id"] == identities(mesh, host)["key_id"]
            assert peer["association"]["peer_key_id"] == identities(mesh, peer["name"])["key_id"]
    assert played.secrets == 2 * len(HOSTS)  # the former and the new ones


def test_check_mode_only_predicts(mesh: Lab) -> None:
    before = public_keys(mesh)
    played = mesh.play(ROTATE, "--check", "--diff", *SOON)
    assert played.status == 0, played.output
    assert "a next key pair, made on the host" in played.output
    assert public_keys(mesh) == before


def test_limit_is_refused(mesh: Lab) -> None:
    played = mesh.play(ROTATE, "--limit", "lab1", *SOON)
    assert played.status != 0
    assert "run it without" in played.output
    assert sum(played.changed().values()) == 0


def test_killed_at_every_step_it_goes_on(mesh: Lab) -> None:
    """One rotation whose play is killed at each of its steps and run again."""
    before = public_keys(mesh)
    with probing(mesh) as count:
        for line, times in STEPS:
            # What is done already is not done again, so later lines come sooner.
            killed = mesh.play_until(line, times, ROTATE, *SOON)
            assert killed.status != 0
        played = mesh.play(ROTATE, *SOON)
    print(f"killed {len(STEPS)} times: {count}")
    assert played.status == 0, played.output
    assert count.lost == count.duplicated == 0
    assert not set(before.values()) & set(public_keys(mesh).values())


@contextlib.contextmanager
def can_filter(lab: Lab, host: str) -> Iterator[None]:
    """Not while packets are counted: the kernel deactivates the device to make or remove a
    qdisc, and drops what it is to send meanwhile."""
    lab.run(host, "tc qdisc add dev eth0 clsact")
    try:
        yield
    finally:
        lab.run(host, "tc qdisc del dev eth0 clsact")


@contextlib.contextmanager
def begins_no_exchange(lab: Lab, host: str, directory: Path) -> Iterator[None]:
    """A host that answers others' exchanges, but whose own get lost on the way out."""
    program = build(directory, "../tests/scenarios/rotate/no_initiation.bpf.c")
    lab.run(host, "base64 -d > /run/program.o", base64.b64encode(program.read_bytes()).decode())
    lab.run(
        host,
        "tc filter add dev eth0 egress bpf direct-action object-file /run/program.o section tc",
    )
    try:
        yield
    finally:
        lab.run(host, "tc filter del dev eth0 egress; rm /run/program.o")


def test_a_failed_gate_stops_with_the_others_untouched(mesh: Lab, tmp_path: Path) -> None:
    """lab2 can begin no exchange: it is found out in its own batch, and said what to do."""
    before = public_keys(mesh)
    with can_filter(mesh, "lab2"), probing(mesh) as count:
        with begins_no_exchange(mesh, "lab2", tmp_path):
            played = mesh.play(ROTATE, "-e", "gate_seconds=10", *SOON)
        assert played.status != 0
        states = [identities(mesh, host)["state"] for host in HOSTS]
        assert states == ["flipped", "flipped", "staged"]
        assert "The rotation has stopped in this batch" in played.output
        assert "there is none with lab1 that was made with the identity in use" in played.output
        assert "rotate_keys_abort=true" in played.output
        assert public_keys(mesh)["lab3"] == before["lab3"]
        finished = mesh.play(ROTATE, *SOON)
    print(count)
    assert finished.status == 0, finished.output
    assert count.lost == count.duplicated == 0


def test_it_is_taken_back(mesh: Lab) -> None:
    before = public_keys(mesh)
    with probing(mesh) as count:
        mesh.play_until("TASK [Use the next identity, or the former one again]", 2, ROTATE, *SOON)
        assert public_keys(mesh) != before
        played = mesh.play(ROTATE, "-e", "rotate_keys_abort=true", *SOON)
    print(count)
    assert played.status == 0, played.output
    assert count.lost == count.duplicated == 0
    assert public_keys(mesh) == before
    again = mesh.play(ROTATE, "-e", "rotate_keys_abort=true", *SOON)
    assert again.status == 0, again.output
    assert again.changed() == dict.fromkeys(HOSTS, 0)
