# SPDX-License-Identifier: GPL-3.0-or-later
"""The `control` program: INSTALL and PUBLISH, what they refuse and what they write."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import pytest

from brine import keys as library
from tests.bpf.host import Host, Keys, boot_ns
from tests.bpf.installer import (
    INDEX,
    PEER,
    REMOTE,
    RETIRE_NS,
    SLOT,
    everything,
    image,
    install,
    rested,
)
from tests.bpf.loaded import ASSOCIATIONS, PEERS

# INSTALL


@pytest.mark.parametrize("initiated", [False, True])
def test_install_writes_what_it_is_given(ready: Host, initiated: bool) -> None:
    keys = Keys()
    before = boot_ns()
    request = ready.install_request(
        SLOT, PEER, keys, index=INDEX, remote=REMOTE, initiated=initiated
    )
    send_until, receive_until = request.send_not_after, request.receive_not_after
    assert ready.control(request) == "DONE"
    association = ready.read("associations", "association", SLOT)
    assert ready.state(SLOT) == ("unconfirmed" if initiated else "pending")
    assert association.peer == PEER
    assert (association.local_index, association.remote_index) == (INDEX, REMOTE)
    assert before <= association.created <= boot_ns()
    assert association.send_not_after == send_until
    assert association.receive_not_after == receive_until
    assert association.initiated == initiated
    assert bytes(association.ratchet) == bytes(8)
    assert list(association.own_since) == list(association.peer_since) == [association.created] * 2
    assert association.own_used_at == association.created
    assert association.peer_moved == association.created & ~0xFF
    assert bytes(association.secret) == keys.secret
    assert bytes(association.send_header_key) == keys.send_header_key
    assert bytes(association.receive_header_key) == keys.receive_header_key
    assert bytes(association.own[0].private) == keys.own_private
    assert bytes(association.own[0].public) == keys.own_public
    assert bytes(association.peer_public[0]) == keys.peer_public
    for number, given, index, until in (
        (SLOT * 8, keys.send, REMOTE, send_until),
        (SLOT * 8 + 4, keys.receive, INDEX, receive_until),
    ):
        box = ready.read("boxes", "box", number)
        assert box.state == ready.loaded.enum("box_state")["BOX_PUBLISHED"]
        assert (box.sender_generation, box.receiver_generation) == (0, 0)
        assert (box.peer, box.index, box.not_after) == (PEER, index, until)
        assert bytes(box.subkey) == library.subkey(library.Box(given.key, given.nonce))
    for number in (*range(SLOT * 8 + 1, SLOT * 8 + 4), *range(SLOT * 8 + 5, SLOT * 8 + 8)):
        assert not any(ready.value("boxes", number))
    slot = ready.loaded.map("indices").lookup(struct.pack("<I", INDEX))
    assert slot == struct.pack("<I", SLOT)
    assert ready.read("peer_states", "peer_state", PEER).sending == 0


def test_install_touches_no_other_slot(ready: Host) -> None:
    before = image(ready)
    install(ready, Keys())
    after = image(ready)
    for name, each in (
        ("associations", 1),
        ("boxes", 8),
        ("counters", 4),
        ("windows", 4),
    ):
        mine = range(SLOT * each, SLOT * each + each)
        for number, (old, new) in enumerate(zip(before[name], after[name], strict=True)):
            assert number in mine or old == new, (name, number)


def test_install_starts_counters_and_windows_at_zero(ready: Host) -> None:
    for name in ("counters", "windows"):
        item = ready.loaded.map(name)
        for number in range(item.max_entries):
            item.update(struct.pack("<I", number), b"\xaa" * item.value_size)
    install(ready, Keys())
    for name in ("counters", "windows"):
        value = ready.value(name, SLOT * 4)
        words = memoryview(value).cast("Q")
        stride = 8 if name == "counters" else 1  # the rest of a counter's line is unused
        assert not any(words[::stride])
        assert ready.value(name, SLOT * 4 + 4) == b"\xaa" * len(value)


@pytest.mark.parametrize("operation", ["CONTROL_INSTALL", "CONTROL_PUBLISH", "CONTROL_ERASE"])
@pytest.mark.parametrize("good", [True, False])
def test_the_request_is_wiped_whatever_comes_of_it(ready: Host, operation: str, good: bool) -> None:
    request = ready.install_request(
        SLOT if good else 2**32 - 1, PEER, Keys(), index=INDEX, remote=REMOTE
    )
    request.operation = ready.loaded.enum("control_operation")[operation]
    ready.control(request)
    at = type(request).secret.offset
    assert at == 80
    assert not any(bytes(request)[at:])


def forbid(**fields: Any) -> Callable[[Any], None]:
    def change(request: Any) -> None:
        for name, value in fields.items():
            if isinstance(value, bytes):
                getattr(request, name)[:] = value
            else:
                setattr(request, name, value)

    return change


def no_send_key(request: Any) -> None:
    request.send.key[:] = bytes(32)


def no_receive_key(request: Any) -> None:
    request.receive.key[:] = bytes(32)


def one_key(request: Any) -> None:
    request.receive.key[:] = bytes(request.send.key)


def all_wiped(request: Any) -> None:
    at = type(request).secret.offset
    ctypes.memset(ctypes.addressof(request) + at, 0, ctypes.sizeof(request) - at)


REFUSED: list[tuple[str, Callable[[Any], None], str]] = [
    ("a slot out of range", forbid(association=ASSOCIATIONS), "BAD_REQUEST"),
    ("a slot far out", forbid(association=2**32 - 1), "BAD_REQUEST"),
    ("a slot that wraps around", forbid(association=2**29 + SLOT), "BAD_REQUEST"),
    ("a peer out of range", forbid(peer=PEERS), "BAD_REQUEST"),
    ("a peer far out", forbid(peer=2**32 - 1), "BAD_REQUEST"),
    ("initiated 2", forbid(initiated=2), "BAD_REQUEST"),
    ("no secret", forbid(secret=bytes(32)), "BAD_REQUEST"),
    ("no key to send", no_send_key, "BAD_REQUEST"),
    ("no key to receive", no_receive_key, "BAD_REQUEST"),
    ("one key for both directions", one_key, "BAD_REQUEST"),
    ("a wiped request", all_wiped, "BAD_REQUEST"),
    ("another identity", forbid(identity=b"\x77" * 32), "WRONG_PEER"),
    ("another peer's identity", forbid(peer=3), "WRONG_PEER"),
    ("an identity off by a bit", forbid(identity=b"\3" * 31 + b"\2"), "WRONG_PEER"),
    ("no identity for an unused peer", forbid(peer=6, identity=bytes(32)), "WRONG_PEER"),
    ("operation 0", forbid(operation=0), "BAD_REQUEST"),
    ("operation 8", forbid(operation=8), "BAD_REQUEST"),
    ("operation 2^31", forbid(operation=2**31), "BAD_REQUEST"),
]


@pytest.mark.parametrize(
    ("change", "result"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_refused_install_writes_nothing(
    ready: Host, change: Callable[[Any], None], result: str
) -> None:
    before = image(ready)
    request = ready.install_request(SLOT, PEER, Keys(), index=INDEX, remote=REMOTE)
    change(request)
    assert ready.control(request) == result
    assert image(ready) == before


def test_a_slot_in_use_is_refused(ready: Host) -> None:
    assert install(ready, Keys()) == "DONE"
    before = image(ready)
    assert install(ready, Keys(), index=1) == "NOT_FREE"
    assert image(ready) == before


def test_an_index_lives_once(ready: Host) -> None:
    keys = Keys()
    assert install(ready, keys) == "DONE"
    before = image(ready)
    assert install(ready, Keys(), slot=5) == "INDEX_TAKEN"
    after = image(ready)
    # Only the claim's serial of the slot that was tried may have moved.
    assert after["associations"][5][:4] == bytes(4)
    assert not any(after["associations"][5][8:])
    after["associations"][5] = before["associations"][5]
    assert after == before
    assert install(ready, Keys(), slot=5, index=INDEX + 1) == "DONE"


def test_the_same_exchange_is_not_installed_twice(ready: Host) -> None:
    """Neither beside the first, nor after it was erased, in whatever slot."""
    keys = Keys()
    assert install(ready, keys) == "DONE"
    assert install(ready, keys, slot=5) == "INDEX_TAKEN"
    assert ready.erase(SLOT) == "DONE"
    rested(ready)
    assert install(ready, keys) == "INDEX_TAKEN"
    assert install(ready, keys, slot=5) == "INDEX_TAKEN"
    assert ready.stats() == {}


def test_an_index_is_free_again_after_its_time(ready: Host) -> None:
    install(ready, Keys())
    before = boot_ns()
    ready.erase(SLOT)
    key = struct.pack("<I", INDEX)
    value = ready.loaded.map("retired").lookup(key)
    assert value is not None
    (until,) = struct.unpack("<Q", value)
    assert before + RETIRE_NS <= until <= boot_ns() + RETIRE_NS
    assert install(ready, Keys(), slot=5) == "INDEX_TAKEN"
    ready.loaded.map("retired").update(key, struct.pack("<Q", boot_ns()))
    assert install(ready, Keys(), slot=5) == "DONE"


def test_an_erased_slot_rests(ready: Host) -> None:
    install(ready, Keys())
    before = boot_ns()
    ready.erase(SLOT)
    after = boot_ns()
    image_before = image(ready)
    assert install(ready, Keys(), index=1) == "RESTING"
    assert image(ready) == image_before
    assert before <= ready.read("associations", "association", SLOT).created <= after
    rested(ready)
    assert install(ready, Keys(), index=1) == "DONE"


def test_a_pair_that_open_holds_is_not_written(ready: Host) -> None:
    """A packet of the slot's last tenant may still be at it. Nothing of the install stays."""
    box = ready.read("boxes", "box", SLOT * 8 + 4)
    box.state = ready.loaded.enum("box_state")["BOX_CLAIMED"]
    ready.write("boxes", SLOT * 8 + 4, box)
    keys = Keys()
    assert install(ready, keys) == "AGAIN"
    assert ready.state(SLOT) == "free"
    assert ready.loaded.map("indices").lookup(struct.pack("<I", INDEX)) is None
    left = everything(ready)
    assert not [secret for secret in keys.all() if secret in left]
    subkey = library.subkey(library.Box(keys.send.key, keys.send.nonce))
    assert subkey not in left


# PUBLISH


def test_publish(ready: Host) -> None:
    install(ready, Keys())
    assert ready.publish(SLOT) == "DONE"
    assert ready.read("peer_states", "peer_state", PEER).sending == SLOT + 1
    assert ready.read("peer_states", "peer_state", 3).sending == 0


@pytest.mark.parametrize("slot", [ASSOCIATIONS, 2**29 + SLOT, 2**32 - 1])
def test_no_operation_reaches_out_of_range(ready: Host, slot: int) -> None:
    install(ready, Keys())
    before = image(ready)
    assert ready.publish(slot) == "BAD_REQUEST"
    assert ready.erase(slot) == "BAD_REQUEST"
    assert image(ready) == before


def test_publish_wants_one_that_may_send(ready: Host) -> None:
    assert ready.publish(SLOT) == "NO_ASSOCIATION"
    install(ready, Keys(), initiated=False)
    assert ready.publish(SLOT) == "NO_ASSOCIATION"
    assert ready.read("peer_states", "peer_state", PEER).sending == 0


def test_publish_moves_on(ready: Host) -> None:
    install(ready, Keys())
    install(ready, Keys(), slot=5, index=1)
    ready.publish(SLOT)
    assert ready.publish(5) == "DONE"
    assert ready.read("peer_states", "peer_state", PEER).sending == 6
