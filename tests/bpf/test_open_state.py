# SPDX-License-Identifier: GPL-3.0-or-later
"""What `open` does to the state of associations and peers, and what their state does to it."""

from __future__ import annotations

import pytest

from tests.bpf.host import XDP_DROP, XDP_REDIRECT, Host, Keys, boot_ns
from tests.bpf.receiver import ASSOCIATION, INDEX, OTHER_PEER, PEER, Receiver


@pytest.fixture
def scene(host: Host) -> Receiver:
    return Receiver(host)


def sending(host: Host, peer: int) -> int | None:
    """The association that the peer's packets are sealed under."""
    value: int = host.read("peer_states", "peer_state", peer).sending
    return value - 1 if value else None


def test_the_first_packet_confirms_a_pending_association(scene: Receiver) -> None:
    host = scene.host
    assert (host.state(ASSOCIATION), sending(host, PEER)) == ("pending", None)
    host.open(scene.frame(scene.data(scene.inner())))
    assert (host.state(ASSOCIATION), sending(host, PEER)) == ("confirmed", ASSOCIATION)
    assert host.events() == [("EVENT_CONFIRMED", PEER, ASSOCIATION, b"")]
    host.open(scene.frame(scene.data(scene.inner(), counter=1)))
    assert host.events() == []


def test_a_keepalive_confirms_too(scene: Receiver) -> None:
    scene.host.open(scene.frame(scene.data(b"")))
    assert scene.host.state(ASSOCIATION) == "confirmed"
    assert sending(scene.host, PEER) == ASSOCIATION


def test_an_unconfirmed_one_is_confirmed_but_not_published(scene: Receiver) -> None:
    """The initiator published it already; if not, that is the daemon's decision."""
    host = scene.host
    keys = Keys()
    host.install(5, PEER, keys, index=77, remote=88, initiated=True)
    scene.keys = keys
    message = bytearray(scene.data(scene.inner()))
    message[4:8] = (77).to_bytes(4, "little")
    assert host.open(scene.frame(bytes(message))).value == XDP_REDIRECT
    assert (host.state(5), sending(host, PEER)) == ("confirmed", None)
    assert host.events() == [("EVENT_CONFIRMED", PEER, 5, b"")]


@pytest.mark.parametrize("change", ["forged", "replayed"])
def test_what_does_not_authenticate_changes_nothing(scene: Receiver, change: str) -> None:
    host = scene.host
    message = bytearray(scene.data(scene.inner()))
    if change == "forged":
        message[-1] ^= 1
    else:
        host.open(scene.frame(bytes(message)))
        for name in ("peer_states", "traffic"):
            host.zero(name)
        host.stats()
        host.events()
    before = [host.value(name, PEER) for name in ("peer_states", "traffic", "peers")]
    assert host.open(scene.frame(bytes(message))).value == XDP_DROP
    assert [host.value(name, PEER) for name in ("peer_states", "traffic", "peers")] == before
    assert host.events() == []


def test_a_packet_is_noted(scene: Receiver) -> None:
    host = scene.host
    before = boot_ns()
    text = scene.inner()
    host.open(scene.frame(scene.data(text)))
    state = host.read("peer_states", "peer_state", PEER)
    assert before <= state.last_received == state.last_data_received <= boot_ns()
    assert state.last_sent == state.last_data_sent == 0
    words = list(memoryview(host.value("traffic", PEER)).cast("Q"))
    assert [sum(words[field::4]) for field in range(4)] == [0, 0, 1, len(text)]


def test_a_keepalive_is_no_data(scene: Receiver) -> None:
    host = scene.host
    host.open(scene.frame(scene.data(b"")))
    state = host.read("peer_states", "peer_state", PEER)
    assert state.last_received > 0
    assert state.last_data_received == 0
    assert not any(host.value("traffic", PEER))


def test_an_expired_box_opens_nothing(scene: Receiver) -> None:
    host = scene.host
    keys = Keys()
    host.install(5, PEER, keys, index=77, remote=88, receive_seconds=-0.001)
    scene.keys = keys
    message = bytearray(scene.data(scene.inner()))
    message[4:8] = (77).to_bytes(4, "little")
    assert host.open(scene.frame(bytes(message))).value == XDP_DROP
    assert host.stats() == {"open_expired": 1}
    assert host.state(5) == "unconfirmed"


@pytest.mark.parametrize(
    "state", ["ASSOCIATION_FREE", "ASSOCIATION_CLAIMED", "ASSOCIATION_ERASING"]
)
def test_an_association_out_of_use_opens_nothing(scene: Receiver, state: str) -> None:
    """As it stands between the steps of an erasure: the index still there, the box too."""
    host = scene.host
    association = host.read("associations", "association", ASSOCIATION)
    association.state = host.loaded.enum("association_state")[state]
    host.write("associations", ASSOCIATION, association)
    host.open(scene.frame(scene.data(scene.inner())))
    assert host.stats() == {"open_no_box": 1}


@pytest.mark.parametrize("state", ["BOX_FAILED", "BOX_CLAIMED"])
def test_a_box_out_of_use_opens_nothing(scene: Receiver, state: str) -> None:
    host = scene.host
    number = ASSOCIATION * 8 + 4
    box = host.read("boxes", "box", number)
    assert box.state == host.loaded.enum("box_state")["BOX_PUBLISHED"]
    box.state = host.loaded.enum("box_state")[state]
    host.write("boxes", number, box)
    host.open(scene.frame(scene.data(scene.inner())))
    assert host.stats() == {"open_no_box": 1}


def test_a_box_of_another_index_opens_nothing(scene: Receiver) -> None:
    """The index leads to an association whose slot has another tenant by now."""
    host = scene.host
    host.loaded.map("indices").update(
        (INDEX + 1).to_bytes(4, "little"), ASSOCIATION.to_bytes(4, "little")
    )
    message = bytearray(scene.data(scene.inner()))
    message[4:8] = (INDEX + 1).to_bytes(4, "little")
    host.open(scene.frame(bytes(message)))
    assert host.stats() == {"open_no_box": 1}


def test_an_erased_association_opens_nothing(scene: Receiver) -> None:
    host = scene.host
    assert host.erase(ASSOCIATION) == "DONE"
    assert host.open(scene.frame(scene.data(scene.inner()))).value == XDP_DROP
    assert host.stats() == {"open_unknown_index": 1}


def test_the_source_is_checked_against_the_box_s_peer(scene: Receiver) -> None:
    """Another peer's association does not lend its addresses."""
    host = scene.host
    keys = Keys()
    host.install(5, OTHER_PEER, keys, index=77, remote=88)
    scene.keys = keys
    message = bytearray(scene.data(scene.inner()))
    message[4:8] = (77).to_bytes(4, "little")
    host.open(scene.frame(bytes(message)))
    assert host.stats() == {"open_source": 1}


def test_no_key_stays_in_the_work_area(scene: Receiver) -> None:
    host = scene.host
    messages = [scene.data(scene.inner()), scene.data(scene.inner(), counter=1)]
    messages.append(messages[1][:-1] + b"?")
    subkey = bytes(host.read("boxes", "box", ASSOCIATION * 8 + 4).subkey)
    assert any(subkey)
    for message in messages:
        host.open(scene.frame(message))
        left = host.value("open_areas", 0)
        for at in range(0, 32, 4):
            assert subkey[at : at + 4] not in left


def test_neither_index_nor_counter_of_the_other_direction_matter(scene: Receiver) -> None:
    """What we seal does not open as if it came from the peer: a reflection."""
    host = scene.host
    keys = Keys(send=scene.keys.send, receive=scene.keys.send)
    reflected = Receiver.__new__(Receiver)
    reflected.host, reflected.keys = host, keys
    host.open(scene.frame(reflected.data(scene.inner())))
    assert host.stats() == {"open_forged": 1}
