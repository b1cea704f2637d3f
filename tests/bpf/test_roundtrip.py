# SPDX-License-Identifier: GPL-3.0-or-later
"""What `seal` makes, `open` opens, and so does NaCl with the library's keys."""

from __future__ import annotations

import os
import struct
from typing import Any

import nacl.secret
import pytest

from brine import keys as library
from tests import vectors
from tests.bpf import packets
from tests.bpf.host import PORT, TC_REDIRECT, XDP_DROP, XDP_REDIRECT, Box, Host, Keys, on_cpu
from tests.bpf.receiver import INSIDE, OURS, PEERS_OWN, THEIRS

A, B = 1, 2  # peers: how each side calls the other
A_SLOT, B_SLOT = 4, 7
A_INDEX, B_INDEX = 0xAAAA0001, 0xBBBB0002


class Pair:
    """Both ends of one association in one set of maps: slot A_SLOT is A's, B_SLOT is B's."""

    def __init__(self, host: Host, outer: int, there: Box, back: Box) -> None:
        self.host = host
        self.outer = outer
        self.at_a()
        host.peer(B, (THEIRS[outer], PORT))
        host.peer(A, (OURS[outer], PORT))
        for family, bits in ((4, 32), (6, 128)):
            host.route(f"{PEERS_OWN[family]}/{bits}", B)
            host.route(f"{INSIDE[family]}/{bits}", A)
        to_b, to_a = Keys(send=there, receive=back), Keys(send=back, receive=there)
        host.install(A_SLOT, B, to_b, index=A_INDEX, remote=B_INDEX)
        host.install(B_SLOT, A, to_a, index=B_INDEX, remote=A_INDEX, initiated=False)
        host.publish(A_SLOT)

    def at_a(self) -> None:
        self.host.configure(OURS[4], OURS[6])

    def at_b(self) -> None:
        self.host.configure(THEIRS[4], THEIRS[6])

    def seal(self, text: bytes) -> bytes:
        """The frame as it arrives: with the EtherType that bpf_redirect_neigh gives it."""
        run = self.host.seal(packets.ethernet(text))
        assert run.value == TC_REDIRECT
        return packets.ethernet(run.data[14:])


def derived() -> tuple[Box, Box]:
    """The generation-0 boxes of both directions, as the library derives them."""
    secret = os.urandom(32)
    private_a, private_b = library.generate_private(), library.generate_private()
    public_a, public_b = library.public_key(private_a), library.public_key(private_b)
    dh = library.beforenm(private_a, public_b)
    assert dh == library.beforenm(private_b, public_a)
    there = library.derive_box(secret, 0, 0, dh, public_a, public_b)
    back = library.derive_box(secret, 0, 0, dh, public_b, public_a)
    return Box(there.key, there.nonce), Box(back.key, back.nonce)


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("family", [4, 6])
def test_there_and_back_byte_for_byte(host: Host, family: int, outer: int) -> None:
    there, back = derived()
    pair = Pair(host, outer, there, back)
    for size in (0, 1, 7, 8, 35, 36, 64, 500, 1372, 1400, 3000):
        text = packets.udp_packet(INSIDE[family], PEERS_OWN[family], os.urandom(size))
        pair.at_a()
        frame = pair.seal(text)
        pair.at_b()
        run = host.open(frame)
        assert (run.value, run.data[14:]) == (XDP_REDIRECT, text)
        assert host.open(frame).value == XDP_DROP
        answer = packets.udp_packet(PEERS_OWN[family], INSIDE[family], os.urandom(size))
        frame = pair.seal(answer)  # B sends since A's first packet confirmed it
        pair.at_a()
        run = host.open(frame)
        assert (run.value, run.data[14:]) == (XDP_REDIRECT, answer)
    host.stats()
    # What A sealed does not open at A.
    pair.at_a()
    frame = pair.seal(packets.udp_packet(INSIDE[4], PEERS_OWN[4], b"mine"))
    pair.at_b()
    host.erase(B_SLOT)
    assert host.open(frame).value == XDP_DROP


@pytest.mark.parametrize("cpu", [0, 1])
def test_nacl_opens_it_with_the_derived_key(host: Host, cpu: int) -> None:
    there, back = derived()
    pair = Pair(host, 4, there, back)
    box = nacl.secret.SecretBox(there.key)
    for number in range(3):
        text = packets.udp_packet(INSIDE[6], PEERS_OWN[6], os.urandom(100))
        with on_cpu(cpu):
            message = pair.seal(text)[14 + 28 :]
        lane, counter = message[3], struct.unpack_from("<Q", message, 8)[0]
        assert (lane, counter) == (cpu, number)
        assert box.decrypt(message[16:], library.box_nonce(there.nonce, lane, counter)) == text


def published() -> list[dict[str, Any]]:
    cases = vectors.load("brine/packet.json")
    return [*cases["data"], *cases["data_keyed"]]


@pytest.mark.parametrize("case", published())
def test_the_published_packets_open(host: Host, case: dict[str, Any]) -> None:
    """tests/vectors/brine/packet.json under the keys of box.json. Their texts are no IP
    packets, so they are not delivered, but they authenticate and decrypt."""
    sgen, rgen = case["box"]
    boxes: list[Any] = vectors.load("brine/box.json")
    (given,) = (
        box
        for box in boxes
        if (box["sender_generation"], box["receiver_generation"]) == (sgen, rgen)
    )
    keys = Keys(receive=Box(bytes.fromhex(given["key"]), bytes.fromhex(given["nonce"])))
    host.configure(OURS[4], OURS[6])
    host.peer(A, (THEIRS[4], PORT))
    host.install(B_SLOT, A, keys, index=case["receiver_index"], remote=1)
    association = host.read("associations", "association", B_SLOT)
    association.ratchet.own_current, association.ratchet.peer_current = rgen, sgen
    host.write("associations", B_SLOT, association)
    # INSTALL fills pair (0, 0); the ratchet would put this one in its own slot.
    box = host.read("boxes", "box", B_SLOT * 8 + 4)
    assert bytes(box.subkey).hex() == given["subkey"]
    box.sender_generation, box.receiver_generation = sgen, rgen
    host.write("boxes", B_SLOT * 8 + 4 + (sgen & 1) * 2 + (rgen & 1), box)
    plaintext = bytes.fromhex(case["plaintext"])
    frame = packets.ethernet(packets.udp_packet(THEIRS[4], OURS[4], bytes.fromhex(case["packet"])))
    with on_cpu(0):
        assert host.open(frame).value == XDP_DROP
    assert host.stats() == {"open_inner" if plaintext else "open_keepalive": 1}
    assert plaintext in host.value("open_areas", 0)
    assert host.open(frame).value == XDP_DROP
    assert host.stats() == {"open_replay": 1}
