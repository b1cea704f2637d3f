# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets on one CPU while `control` erases and installs on another.

bpf/association.h argues why no (key, nonce) is used twice, and none with half a key.
Here both sides run into each other as fast as they can, on one slot, and every packet
that came out is opened with the keys that were ever installed.
"""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import dataclass, field

import nacl.bindings
import nacl.exceptions

from brine.libbpf import Run
from tests.bpf import packets
from tests.bpf.host import TC_REDIRECT, XDP_REDIRECT, Host, Keys, on_cpu
from tests.bpf.installer import rested
from tests.bpf.receiver import INSIDE, OURS, PEERS_OWN, Receiver
from tests.bpf.sender import Sender

SLOT, PEER, OTHER = 4, 1, 3
TURNS = 400


@dataclass
class Tenant:
    """What one install put into the slot."""

    peer: int
    keys: Keys
    index: int
    used: set[tuple[int, int]] = field(default_factory=set)


@dataclass
class Renewer:
    """Erases and installs one slot, again and again, for two peers in turn."""

    host: Host
    tenants: dict[int, Tenant] = field(default_factory=dict)  # by index
    done: threading.Event = field(default_factory=threading.Event)

    def turn(self, number: int) -> None:
        host = self.host
        tenant = Tenant((PEER, OTHER)[number % 2], Keys(), 1000 + number)
        self.tenants[tenant.index] = tenant
        host.install(SLOT, tenant.peer, tenant.keys, index=tenant.index, remote=tenant.index)
        host.publish(SLOT)
        time.sleep(0.00005 * (number % 5))
        assert host.erase(SLOT) == "DONE"
        rested(host, SLOT)

    def run(self) -> None:
        with on_cpu(1):
            for number in range(TURNS):
                self.turn(number)
        self.done.set()


def opens(tenant: Tenant, message: bytes) -> bytes | None:
    """The text of a DATA message under the tenant's sending key."""
    lane, counter = message[3], struct.unpack_from("<Q", message, 8)[0]
    nonce = tenant.keys.send.nonce + struct.pack("<Q", lane << 56 | counter)
    try:
        return nacl.bindings.crypto_secretbox_open(message[16:], nonce, tenant.keys.send.key)
    except nacl.exceptions.CryptoError:
        return None


def test_no_packet_is_sealed_with_a_key_that_was_not_its_peers(host: Host) -> None:
    scene = Sender(host)
    host.peer(OTHER, ("203.0.113.3", 4747))
    host.route("10.77.0.3/32", OTHER)
    texts = {
        PEER: packets.udp_packet(INSIDE[4], PEERS_OWN[4], b"for the one" * 9),
        OTHER: packets.udp_packet(INSIDE[4], "10.77.0.3", b"for the other" * 9),
    }
    frames = {peer: packets.ethernet(text) for peer, text in texts.items()}
    host.erase(2)  # the scene's own
    renewer = Renewer(host)
    thread = threading.Thread(target=renewer.run)
    sealed: list[tuple[int, bytes]] = []
    thread.start()
    with on_cpu(0):
        while not renewer.done.is_set():
            for peer, frame in frames.items():
                run = scene.host.seal(frame)
                if run.value == TC_REDIRECT:
                    sealed.append((peer, run.data))
    thread.join()
    assert len(renewer.tenants) == TURNS  # its thread did not fail
    assert sealed
    for peer, frame in sealed:
        message = frame[14 + 28 :]
        tenant = renewer.tenants[struct.unpack_from("<I", message, 4)[0]]
        assert tenant.peer == peer
        assert opens(tenant, message) == texts[peer], "a mixed key"
        nonce = (message[3], struct.unpack_from("<Q", message, 8)[0])
        assert nonce not in tenant.used, "a nonce twice"
        tenant.used.add(nonce)


def test_cpus_at_once_never_draw_one_nonce(host: Host) -> None:
    scene = Sender(host)
    frame = packets.ethernet(scene.inner())
    host.zero("counters")
    drawn: dict[int, list[tuple[int, int]]] = {0: [], 1: []}

    def run(cpu: int) -> None:
        with on_cpu(cpu):
            for _ in range(3000):
                out: Run = scene.host.seal(frame)
                assert out.value == TC_REDIRECT
                drawn[cpu].append((out.data[45], struct.unpack_from("<Q", out.data, 50)[0]))

    threads = [threading.Thread(target=run, args=(cpu,)) for cpu in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [nonce for nonces in drawn.values() for nonce in nonces]
    assert len(set(everything)) == len(everything) == 6000
    for cpu, nonces in drawn.items():
        assert nonces == [(cpu, counter) for counter in range(3000)]


def test_nothing_is_delivered_twice_across_an_erasure(host: Host) -> None:
    """One CPU replays a few packets of every tenant while the slot changes hands."""
    scene = Receiver(host)
    host.erase(3)
    host.peer(PEER, ("198.51.100.9", 4747))
    host.peer(OTHER, ("198.51.100.10", 4747))
    host.route(f"{PEERS_OWN[4]}/32", PEER)
    text = packets.udp_packet(PEERS_OWN[4], INSIDE[4], b"once")
    delivered: dict[bytes, int] = {}
    stop = threading.Event()
    current: list[list[bytes]] = [[]]

    def replay() -> None:
        with on_cpu(0):
            while not stop.is_set():
                for frame in current[0]:
                    if scene.host.open(frame).value == XDP_REDIRECT:
                        delivered[frame] = delivered.get(frame, 0) + 1

    thread = threading.Thread(target=replay)
    thread.start()
    with on_cpu(1):
        for turn in range(TURNS):
            keys = Keys()
            index = 5000 + turn
            host.install(SLOT, PEER, keys, index=index, remote=1)
            current[0] = [
                packets.ethernet(
                    packets.udp_packet(
                        "198.51.100.9",
                        OURS[4],
                        packets.data(
                            keys.receive.key, keys.receive.nonce, index, text, counter=counter
                        ),
                    )
                )
                for counter in range(3)
            ]
            time.sleep(0.0001 * (turn % 7))
            assert host.erase(SLOT) == "DONE"
            rested(host, SLOT)
    stop.set()
    thread.join()
    assert delivered
    assert set(delivered.values()) == {1}
