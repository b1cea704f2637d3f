# SPDX-License-Identifier: GPL-3.0-or-later
"""Each step of `seal` and `open` with an erasure, or a whole change of tenant, inside it.

What bpf/association.h argues is done here one interleaving at a time: races.bpf.c runs
the work of `control` at a chosen place of the very same code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import nacl.bindings
import nacl.exceptions
import pytest

from tests.bpf import packets
from tests.bpf.host import TC_REDIRECT, TC_SHOT, XDP_DROP, XDP_REDIRECT, Host, Keys
from tests.bpf.loaded import Loaded, build, load
from tests.bpf.receiver import ASSOCIATION as OPENING
from tests.bpf.receiver import INSIDE, Receiver
from tests.bpf.sender import ASSOCIATION as SEALING
from tests.bpf.sender import OTHER_PEER, PEER, REMOTE, Sender

NEW_INDEX, NEW_REMOTE = 0x77777777, 0x66666666
RACE_ZERO = bytes(4)


@pytest.fixture(scope="module")
def racing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    made = load(build(tmp_path_factory.mktemp("races"), "../tests/bpf/races.bpf.c"))
    yield made
    made.close()


@pytest.fixture
def raced(racing: Loaded) -> Iterator[Host]:
    """A host whose programs can be raced."""
    made = Host(racing)
    yield made
    racing.map("race").update(RACE_ZERO, bytes(racing.map("race").value_size))
    made.close()


class Race:
    """The next packet meets this at `place`."""

    def __init__(self, host: Host, place: str, action: str) -> None:
        self.host = host
        self._race = host.loaded.struct("race")()
        self._race.place = host.loaded.enum("race_place")[f"RACE_{place}"]
        self._race.action = host.loaded.enum("race_action")[f"RACE_{action}"]

    def renew(self, slot: int, peer: int, keys: Keys, *, initiated: bool) -> Race:
        """With this as the next tenant."""
        self._race.request = self.host.install_request(
            slot, peer, keys, index=NEW_INDEX, remote=NEW_REMOTE, initiated=initiated
        )
        return self

    def arm(self) -> None:
        self.host.loaded.map("race").update(RACE_ZERO, bytes(self._race))

    def disarm(self) -> None:
        """It must have happened, once."""
        value = self.host.loaded.map("race").lookup(RACE_ZERO)
        assert value is not None
        race = self.host.loaded.struct("race").from_buffer_copy(value)
        assert (race.done, race.result) == (1, 0)
        self.host.loaded.map("race").update(RACE_ZERO, bytes(len(value)))


def opened(frame: bytes, keys: Keys) -> tuple[int, int, bytes] | None:
    """Index, counter and text of a sealed frame under that sending key."""
    message = frame[14 + 28 :]
    _kind, _s, _r, lane, index, counter = struct.unpack_from("<BBBBIQ", message)
    nonce = keys.send.nonce + struct.pack("<Q", lane << 56 | counter)
    try:
        text = nacl.bindings.crypto_secretbox_open(message[16:], nonce, keys.send.key)
    except nacl.exceptions.CryptoError:
        return None
    return index, counter, text


# seal

NEVER_SEALED = ["SEAL_ALIVE", "SEAL_COPIED", "SEAL_COUNTED"]


def punted(host: Host, text: bytes) -> None:
    (reason,) = host.stats()
    assert reason in {"seal_no_box", "seal_expired"}  # a wiped box's time is over
    assert host.events() == [("EVENT_PUNT_SEND", PEER, 0, text)]


@pytest.mark.parametrize("place", ["SEAL_FOUND", *NEVER_SEALED])
def test_an_erasure_under_way_stops_the_packet(raced: Host, place: str) -> None:
    """A box half wiped, or wiped to a key of zeros that anyone could guess, seals nothing."""
    scene = Sender(raced)
    text = scene.inner()
    race = Race(raced, place, "ERASE")
    race.arm()
    assert raced.seal(packets.ethernet(text)).value == TC_SHOT
    race.disarm()
    punted(raced, text)


@pytest.mark.parametrize("peer", [PEER, OTHER_PEER])
@pytest.mark.parametrize("place", NEVER_SEALED)
def test_a_new_tenant_does_not_get_the_packet(raced: Host, place: str, peer: int) -> None:
    """Neither key is used with the other's counter, nor a peer's packet for another."""
    scene, keys = Sender(raced), Keys()
    raced.route("10.77.0.3/32", OTHER_PEER)
    for _ in range(5):  # the old counter is ahead of the new one
        raced.seal(packets.ethernet(scene.inner()))
    raced.stats()
    race = Race(raced, place, "RENEW").renew(SEALING, peer, keys, initiated=True)
    race.arm()
    assert raced.seal(packets.ethernet(scene.inner())).value == TC_SHOT
    race.disarm()
    punted(raced, scene.inner())
    # The new tenant's numbers begin at 0, or at 1 if the late packet drew one: none repeats.
    to = packets.udp_packet(INSIDE[4], "10.77.0.2" if peer == PEER else "10.77.0.3", b"next")
    drawn = []
    for _ in range(3):
        run = raced.seal(packets.ethernet(to))
        assert run.value == TC_REDIRECT
        found = opened(run.data, keys)
        assert found is not None
        assert (found[0], found[2]) == (NEW_REMOTE, to)
        drawn.append(found[1])
    draws = place == "SEAL_COPIED" or (place == "SEAL_ALIVE" and peer == PEER)
    first = 1 if draws else 0
    assert drawn == [first, first + 1, first + 2]


def test_a_slot_found_and_renewed_is_taken_as_it_is_now(raced: Host) -> None:
    scene, keys = Sender(raced), Keys()
    race = Race(raced, "SEAL_FOUND", "RENEW").renew(SEALING, PEER, keys, initiated=True)
    race.arm()
    run = raced.seal(packets.ethernet(scene.inner()))
    race.disarm()
    assert run.value == TC_REDIRECT
    assert opened(run.data, keys) == (NEW_REMOTE, 0, scene.inner())


def test_a_slot_found_and_given_to_another_peer_seals_nothing(raced: Host) -> None:
    scene, keys = Sender(raced), Keys()
    race = Race(raced, "SEAL_FOUND", "RENEW").renew(SEALING, OTHER_PEER, keys, initiated=True)
    race.arm()
    assert raced.seal(packets.ethernet(scene.inner())).value == TC_SHOT
    race.disarm()
    punted(raced, scene.inner())


@pytest.mark.parametrize("action", ["ERASE", "RENEW"])
def test_what_was_taken_is_sealed_whole(raced: Host, action: str) -> None:
    scene, keys = Sender(raced), Keys()
    race = Race(raced, "SEAL_TAKEN", action).renew(SEALING, PEER, keys, initiated=True)
    race.arm()
    run = raced.seal(packets.ethernet(scene.inner()))
    race.disarm()
    assert run.value == TC_REDIRECT
    assert opened(run.data, scene.keys) == (REMOTE, 0, scene.inner())
    assert opened(run.data, keys) is None


# open

NEVER_OPENED = ["OPEN_FOUND", "OPEN_ALIVE", "OPEN_COPIED", "OPEN_VERIFIED", "OPEN_MARKED"]


@pytest.mark.parametrize("place", NEVER_OPENED)
def test_an_erasure_under_way_stops_what_arrives(raced: Host, place: str) -> None:
    scene = Receiver(raced)
    race = Race(raced, place, "ERASE")
    race.arm()
    assert raced.open(scene.frame(scene.data(scene.inner()))).value == XDP_DROP
    race.disarm()
    (reason,) = raced.stats()
    assert reason in {"open_no_box", "open_expired"}
    assert raced.state(OPENING) == "free"
    assert raced.events() == []
    assert not any(raced.value("peer_states", 2))


@pytest.mark.parametrize("peer", [1, 2])
@pytest.mark.parametrize("place", NEVER_OPENED)
def test_a_new_tenant_is_not_confirmed_by_the_old_one_s_packet(
    raced: Host, place: str, peer: int
) -> None:
    scene, keys = Receiver(raced), Keys()
    race = Race(raced, place, "RENEW").renew(OPENING, peer, keys, initiated=False)
    race.arm()
    assert raced.open(scene.frame(scene.data(scene.inner()))).value == XDP_DROP
    race.disarm()
    assert raced.stats() == {"open_no_box": 1}
    assert raced.state(OPENING) == "pending"
    assert raced.events() == []
    assert not any(raced.value("peer_states", peer))
    # It works: at most the number that the late packet marked is lost.
    source = {1: "10.77.0.3", 2: "10.77.0.2"}[peer]
    text = packets.udp_packet(source, INSIDE[4], b"the new one's")
    for counter in range(2):
        message = packets.data(
            keys.receive.key, keys.receive.nonce, NEW_INDEX, text, counter=counter
        )
        lost = counter == 0 and place in {"OPEN_COPIED", "OPEN_VERIFIED"}
        run = raced.open(scene.frame(message))
        assert run.value == (XDP_DROP if lost else XDP_REDIRECT)
    assert raced.state(OPENING) == "confirmed"


@pytest.mark.parametrize("place", NEVER_OPENED)
def test_a_replay_does_not_profit_from_a_fresh_window(raced: Host, place: str) -> None:
    scene = Receiver(raced)
    frame = scene.frame(scene.data(scene.inner()))
    assert raced.open(frame).value == XDP_REDIRECT
    raced.stats()
    race = Race(raced, place, "RENEW").renew(OPENING, 2, Keys(), initiated=False)
    race.arm()
    assert raced.open(frame).value == XDP_DROP
    if place not in {"OPEN_VERIFIED", "OPEN_MARKED"}:  # refused before it gets there
        race.disarm()
    assert raced.state(OPENING) == (
        "confirmed" if "VERI" in place or "MARK" in place else "pending"
    )


@pytest.mark.parametrize("action", ["ERASE", "RENEW"])
def test_what_was_opened_is_delivered_and_confirms_nothing(raced: Host, action: str) -> None:
    scene = Receiver(raced)
    race = Race(raced, "OPEN_TAKEN", action).renew(OPENING, 2, Keys(), initiated=False)
    race.arm()
    run = raced.open(scene.frame(scene.data(scene.inner())))
    race.disarm()
    assert run.value == XDP_REDIRECT
    assert run.data == scene.delivered(scene.inner())
    assert raced.state(OPENING) == ("free" if action == "ERASE" else "pending")
    assert raced.events() == []
    assert raced.read("peer_states", "peer_state", 2).sending == 0


def test_a_word_moved_on_between_look_and_mark(raced: Host) -> None:
    scene = Receiver(raced)
    race = Race(raced, "OPEN_VERIFIED", "MOVE_WINDOW")
    race.arm()
    assert raced.open(scene.frame(scene.data(scene.inner(), counter=5))).value == XDP_DROP
    race.disarm()
    assert raced.stats() == {"open_replay": 1}
    window = raced.read("windows", "windows", OPENING * 4).lane[0]
    assert (window.words[0], window.highest) == (1 << 32 | 1, 0)


# control


def test_a_peer_taken_out_while_an_exchange_is_installed(raced: Host) -> None:
    """Its identity goes between the first check and the claim: nothing is installed."""
    raced.configure()
    raced.peer(2, ("198.51.100.9", 4747))
    race = Race(raced, "CONTROL_CLAIMED", "CLEAR_PEER")
    race.renew(OPENING, 2, Keys(), initiated=True).arm()
    keys = Keys()
    request = raced.install_request(OPENING, 2, keys, index=NEW_INDEX, remote=1)
    assert raced.control(request) == "WRONG_PEER"
    race.disarm()
    assert raced.state(OPENING) == "free"
    assert list(raced.loaded.map("indices").keys()) == []
    assert not any(raced.value("boxes", OPENING * 8))
    raced.peer(2, ("198.51.100.9", 4747))
    raced.install(OPENING, 2, keys, index=NEW_INDEX, remote=1)  # the slot is as good as before
