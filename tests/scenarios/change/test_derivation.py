# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of the mesh leaves it to brined to compute the keys of its peers, and takes that back.
Packets flow between all hosts meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.labs import BRINE, HOSTS, Lab
from tests.probing import probing

SECONDS = 120
PUNTING = "lab2"
MORE = f"brine: {{hosts: {{{PUNTING}: {{brine_kernel_derivation: false}}}}}}\n"


def derives(lab: Lab) -> dict[str, bool]:
    """Whether `open` computes keys, on each host."""
    return {host: lab.status(host)["kernel_derivation"] for host in HOSTS}


def generations(lab: Lab, host: str, which: str) -> dict[str, tuple[int, int]]:
    """Of a host's own keys or its peers': by peer, which association it is and which key of it."""
    return {
        peer["name"]: (peer["association"]["number"], peer["association"][f"{which}_generation"])
        for peer in lab.status(host)["peers"]
        if peer["association"]
    }


def rotates(lab: Lab, host: str) -> None:
    """Have a host make new keys, and see all its peers take them up."""
    before = generations(lab, host, "own")
    assert before.keys() == set(HOSTS) - {host}
    answer = json.loads(lab.run(host, f"{BRINE} rotate --json"))
    assert answer
    deadline = time.monotonic() + SECONDS
    while True:
        own = generations(lab, host, "own")
        if own.keys() == before.keys() and all(own[peer] != before[peer] for peer in own):
            taken = {peer: generations(lab, peer, "peer").get(host, (0, -1)) for peer in own}
            if all(taken[peer][1] >= own[peer][1] for peer in own):
                return
        assert time.monotonic() < deadline, (host, before, own)
        time.sleep(0.5)


def test_brined_derives_on_one_host(mesh: Lab, tmp_path: Path) -> None:
    inventory = tmp_path / "derivation.yml"
    inventory.write_text(MORE)
    with probing(mesh, interval_ms=2) as count:
        played = mesh.play("site.yml", inventories=[inventory])
        assert played.status == 0, played.output
        assert {host for host, changed in played.changed().items() if changed} == {PUNTING}
        assert derives(mesh) == {host: host != PUNTING for host in HOSTS}
        again = mesh.play("site.yml", inventories=[inventory])  # its verify passes, too
        assert again.status == 0, again.output
        assert again.changed() == dict.fromkeys(HOSTS, 0), again.output
        punted = mesh.status(PUNTING)["drops"]["open_punt_pair"]
        rotates(mesh, "lab1")
        assert mesh.status(PUNTING)["drops"]["open_punt_pair"] > punted
        rotates(mesh, PUNTING)
    print(count)
    assert count.lost == count.duplicated == 0


def test_it_is_taken_back(mesh: Lab) -> None:
    assert not derives(mesh)[PUNTING]
    with probing(mesh, interval_ms=2) as count:
        played = mesh.play("site.yml", "--limit", PUNTING)
        assert played.status == 0, played.output
        assert played.changed()[PUNTING] > 0
        assert all(derives(mesh).values())
        rotates(mesh, "lab1")
    print(count)
    assert count.lost == count.duplicated == 0
    again = mesh.play("site.yml", "--limit", PUNTING)
    assert again.status == 0, again.output
    assert again.changed() == {PUNTING: 0}, again.output
