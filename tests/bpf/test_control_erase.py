# SPDX-License-Identifier: GPL-3.0-or-later
"""The `control` program: ERASE, and what it leaves behind."""

from __future__ import annotations

import itertools
import struct

import pytest

from brine import keys as library
from tests.bpf.host import Host, Keys
from tests.bpf.installer import INDEX, PEER, SLOT, everything, image, install, rested


@pytest.mark.parametrize("initiated", [False, True])
@pytest.mark.parametrize("published", [False, True])
def test_erase_leaves_no_secret(ready: Host, initiated: bool, published: bool) -> None:
    keys = Keys()
    install(ready, keys, initiated=initiated)
    if published and initiated:
        ready.publish(SLOT)
    secrets = keys.all()
    for box in (keys.send, keys.receive):
        secrets.append(library.subkey(library.Box(box.key, box.nonce)))
    held = everything(ready)
    found = [secret for secret in secrets if secret in held]
    assert len(found) == 6  # all but K and N, which are spent on the sub-keys
    assert ready.erase(SLOT) == "DONE"
    left = everything(ready)
    for secret in secrets:
        for at in range(0, len(secret), 8):
            assert secret[at : at + 8] not in left
    assert ready.state(SLOT) == "free"
    assert ready.loaded.map("indices").lookup(struct.pack("<I", INDEX)) is None
    assert ready.read("peer_states", "peer_state", PEER).sending == 0
    association = ready.read("associations", "association", SLOT)
    assert not any(bytes(association)[type(association).secret.offset :])
    for number in range(SLOT * 8, SLOT * 8 + 8):
        box = ready.read("boxes", "box", number)
        assert box.state == ready.loaded.enum("box_state")["BOX_EMPTY"]
        assert (box.not_after, any(box.subkey)) == (0, False)


def test_erase_wipes_every_box(ready: Host) -> None:
    """Also those of later generations, which INSTALL does not fill."""
    install(ready, Keys())
    for number in range(SLOT * 8, SLOT * 8 + 8):
        box = ready.read("boxes", "box", number)
        box.state = ready.loaded.enum("box_state")["BOX_PUBLISHED"]
        box.subkey[:] = b"\x5a" * 32
        ready.write("boxes", number, box)
    association = ready.read("associations", "association", SLOT)
    association.own[1].private[:] = b"\x5a" * 32
    association.peer_public[1][:] = b"\x5a" * 32
    ready.write("associations", SLOT, association)
    ready.erase(SLOT)
    assert b"\x5a" * 8 not in everything(ready)


def test_erase_leaves_others_alone(ready: Host) -> None:
    install(ready, Keys())
    install(ready, Keys(), slot=5, index=1)
    ready.publish(5)
    before = [ready.value("associations", 5), *(ready.value("boxes", n) for n in range(40, 48))]
    ready.erase(SLOT)
    after = [ready.value("associations", 5), *(ready.value("boxes", n) for n in range(40, 48))]
    assert after == before
    assert ready.read("peer_states", "peer_state", PEER).sending == 6
    assert ready.loaded.map("indices").lookup(struct.pack("<I", 1)) == struct.pack("<I", 5)


def test_erase_of_a_free_slot_is_no_error(ready: Host) -> None:
    before = image(ready)
    assert ready.erase(SLOT) == "DONE"
    assert image(ready) == before
    install(ready, Keys())
    ready.erase(SLOT)
    before = image(ready)
    assert ready.erase(SLOT) == "DONE"
    assert image(ready) == before


def test_a_slot_at_work_is_busy(ready: Host) -> None:
    """As another run of the program would find it."""
    association = ready.read("associations", "association", SLOT)
    association.state = ready.loaded.enum("association_state")["ASSOCIATION_CLAIMED"]
    ready.write("associations", SLOT, association)
    before = image(ready)
    assert ready.erase(SLOT) == "BUSY"
    assert install(ready, Keys()) == "NOT_FREE"
    assert ready.publish(SLOT) == "NO_ASSOCIATION"
    assert image(ready) == before


def test_serials_only_rise(ready: Host) -> None:
    seen: list[tuple[int, int, int]] = []
    for turn in range(4):
        install(ready, Keys(), index=turn)
        ready.erase(SLOT)
        rested(ready)
        seen.append(
            (
                ready.read("associations", "association", SLOT).serial,
                ready.read("boxes", "box", SLOT * 8).serial,
                ready.read("boxes", "box", SLOT * 8 + 4).serial,
            )
        )
    for serials in zip(*seen, strict=True):
        assert all(a < b for a, b in itertools.pairwise(serials))
