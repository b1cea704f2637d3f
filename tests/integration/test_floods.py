# SPDX-License-Identifier: GPL-3.0-or-later
"""Floods from the underlay, in the name of many: the mesh goes on, and exchanges too.

What a flood costs in throughput is printed and not judged: its source is on this machine.
"""

from __future__ import annotations

import ipaddress
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from brine import keys, messages
from brine.errors import BrineError
from brine.exchange import NO_PSK, Initiator
from brine.layout import Layout
from brine.maps import Maps
from tests.bpf import packets
from tests.integration.conftest import Make
from tests.integration.flood import Flood, flooding
from tests.integration.hosts import PORT, Host, eventually
from tests.integration.namespaces import Namespace, Switch
from tests.integration.test_mesh import confirmed

SECRET = b"\7" * 32
SECONDS = 30  #: at most: the flood ends with what it is to disturb
A_SECOND = 5000
WITNESS_PORT = 5005


@dataclass
class Attacker:
    """Somebody on the underlay, who sends in anybody's name."""

    namespace: Namespace
    mac: bytes
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def stranger(self) -> str:
        return str(ipaddress.IPv4Address(self.chance.randrange(1 << 24, 0xDFFFFFFF)))

    def frame(self, host: Host, packet: bytes) -> bytes:
        ethertype = b"\x08\x00"
        return _mac(host.namespace) + self.mac + ethertype + packet

    def datagram(self, host: Host, message: bytes, source: str | None = None) -> bytes:
        ports = self.chance.randrange(1024, 65536), PORT
        to = str(host.underlay4.ip)
        return self.frame(
            host, packets.udp_packet(source or self.stranger(), to, message, ports=ports)
        )

    def fragments(self, host: Host, message: bytes) -> list[bytes]:
        """The same in two packets."""
        whole = packets.udp(self.chance.randrange(1024, 65536), PORT, message)
        source, to = self.stranger(), str(host.underlay4.ip)
        first = packets.ipv4(source, to, whole[:800], fragment=0x2000)
        rest = packets.ipv4(source, to, whole[800:], fragment=100)
        return [self.frame(host, first), self.frame(host, rest)]

    def answers_reach(self, *hosts: Host) -> None:
        """Without a way back to its sender the stack takes no packet; and there, it ends."""
        for host in hosts:
            with host.namespace.entered(), IPRoute() as ip:
                ip.route("add", dst="0.0.0.0/0", gateway="192.0.2.200")


def _mac(namespace: Namespace) -> bytes:
    with namespace.entered(), IPRoute() as ip:
        (link,) = ip.get_links(ifname="eth0")
        return bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))


@pytest.fixture
def attacker(switch: Switch) -> Iterator[Attacker]:
    namespace = Namespace()
    switch.connect(namespace, "attacker", [ipaddress.IPv4Interface("192.0.2.200/24")])
    made = Attacker(namespace, bytes.fromhex("0200000000aa"))
    yield made
    namespace.close()


class Witness:
    """A TCP flow through the mesh that never ends: how much arrives."""

    def __init__(self, one: Host, two: Host) -> None:
        self._ending = threading.Event()
        listener = two.inside(socket.create_server, (str(two.inner4), WITNESS_PORT))
        with listener:
            self._out = one.inside(socket.create_connection, (str(two.inner4), WITNESS_PORT), 10)
            self._in, _ = listener.accept()
        self.received = 0
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        block = bytes(1 << 15)
        self._out.settimeout(60)
        while not self._ending.is_set():
            self._out.sendall(block)
        self._out.close()

    def _receive(self) -> None:
        while data := self._in.recv(1 << 16):
            self.received += len(data)

    def rate(self, seconds: float) -> float:
        """Mbit/s for so long."""
        before, begin = self.received, time.monotonic()
        time.sleep(seconds)
        return (self.received - before) * 8e-6 / (time.monotonic() - begin)

    def close(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._in.close()


def cpu_seconds(host: Host) -> float:
    """Of its daemon, so far."""
    pid = host.ask("status")["pid"]
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def waiting(host: Host) -> int:
    """Bytes in the daemon's sockets, not read yet."""
    with host.namespace.entered():
        lines = Path("/proc/thread-self/net/udp").read_text().splitlines()[1:]
    ours = [line.split() for line in lines if line.split()[1].endswith(f":{PORT:04X}")]
    assert ours
    return sum(int(words[4].partition(":")[2], 16) for words in ours)


def layout_of(host: Host) -> Layout:
    with Maps.of(host.config) as maps:
        return maps.layout


def initiations(host: Host, psk: bytes, count: int = 16) -> list[bytes]:
    """What somebody outside the roster makes for `host`, whose public key it knows."""
    layout = layout_of(host)
    return [
        Initiator(layout, keys.generate_private(), host.public, psk, number + 1, bytes(12)).message
        for number in range(count)
    ]


@dataclass
class Kind:
    """A flood of `two`, the counters that must tell of nearly all of it, and who can begin an
    exchange meanwhile."""

    frames: Callable[[Attacker, Host, Host], list[bytes]]
    counters: tuple[str, ...]
    begin: tuple[int, ...] = (0, 1)
    psk: bytes | None = None
    shuffled: bool = True
    wait: float = 0  #: s, before it begins


def _wrong_mac1(attacker: Attacker, _one: Host, two: Host) -> list[bytes]:
    """Who knows all public keys, but not the mesh's secret."""
    made = initiations(two, NO_PSK)
    return [attacker.datagram(two, message) for message in made for _ in range(64)]


def _right_mac1(attacker: Attacker, _one: Host, two: Host) -> list[bytes]:
    """The mesh has no secret: only buckets are left."""
    made = initiations(two, NO_PSK)
    return [attacker.datagram(two, message) for message in made for _ in range(256)]


def _in_a_peers_name(attacker: Attacker, one: Host, two: Host) -> list[bytes]:
    source = str(one.underlay4.ip)
    return [attacker.datagram(two, message, source) for message in initiations(two, NO_PSK)]


def _answers(attacker: Attacker, _one: Host, two: Host) -> list[bytes]:
    layout, mac1_key = layout_of(two), keys.mac1_key(NO_PSK, two.public)
    frames = []
    for number in range(200):
        index = attacker.chance.randrange(1 << 32)
        noise = os.urandom(1200 - 12)
        frames += [
            attacker.datagram(two, messages.response(layout, number, index, noise, mac1_key)),
            attacker.datagram(two, messages.seal_cookie(layout, index, bytes(32), bytes(16))),
        ]
    return frames


def _unknown_indices(attacker: Attacker, one: Host, two: Host) -> list[bytes]:
    source = str(one.underlay4.ip)
    return [
        attacker.datagram(two, packets.data(bytes(32), bytes(16), number, b""), source)
        for number in range(500)
    ]


def _announcements(attacker: Attacker, one: Host, two: Host) -> list[bytes]:
    """DATA_KEYED of a new key under an index that lives, header_tag guessed."""
    association = two.association(one)
    assert association is not None
    frames = []
    for counter in range(500):
        message = packets.data_keyed(
            *(bytes(32), bytes(16), association["local_index"], b""),
            announced=os.urandom(32),
            header_tag=os.urandom(8),
            counter=counter,
            generations=(association["peer_generation"] + 1, association["own_generation"]),
        )
        frames.append(attacker.datagram(two, message, str(one.underlay4.ip)))
    return frames


def _fragments(attacker: Attacker, _one: Host, two: Host) -> list[bytes]:
    """They pass XDP by; mac1 is right, as the mesh has no secret."""
    made = initiations(two, NO_PSK)
    return [
        frame for message in made for _ in range(64) for frame in attacker.fragments(two, message)
    ]


KINDS = {
    "mac1 wrong": Kind(_wrong_mac1, ("open_mac1",), psk=SECRET),
    "mac1 right": Kind(_right_mac1, ("open_limited_host", "open_limited_source")),
    "in a peer's name": Kind(_in_a_peers_name, ("open_limited_source",), begin=(1,)),
    "answers": Kind(_answers, ("open_unawaited",)),
    "unknown indices": Kind(_unknown_indices, ("open_unknown_index",)),
    # Of a key that is due: the peer may announce one ten seconds after the last.
    "announcements": Kind(_announcements, ("open_header_tag",), begin=(), wait=11),
    "fragments": Kind(_fragments, (), begin=(1,), shuffled=False),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_mesh_goes_on(make: Make, attacker: Attacker, tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    one, two = make(2, psks=[kind.psk] * 2 if kind.psk else None)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    frames = kind.frames(attacker, one, two)
    if kind.shuffled:
        attacker.chance.shuffle(frames)
    attacker.answers_reach(one, two)
    time.sleep(kind.wait)
    witness = Witness(one, two)
    try:
        quiet = witness.rate(1)
        before = _drops(two, kind.counters)
        spent, begin = cpu_seconds(two), time.monotonic()
        flood: Flood
        with flooding(attacker.namespace, frames, tmp_path / "frames", SECONDS, A_SECOND) as flood:
            flooded = witness.rate(2)
            for number in kind.begin:
                _exchange_anew(*((one, two) if number == 0 else (two, one)))
            assert one.ping(two.inner4, 5) is not None
            passed = time.monotonic() - begin
        spent = cpu_seconds(two) - spent
        dropped = _drops(two, kind.counters) - before
    finally:
        witness.close()
    print(
        f"{name}: {flood.sent / passed:.0f} a second; TCP {quiet:.0f} -> {flooded:.0f} Mbit/s"
        f" ({flooded / quiet:.0%}); daemon {spent / passed:.0%} of a CPU"
    )
    assert flooded > 0
    assert spent / passed < 0.5
    if kind.counters:
        assert dropped >= 0.7 * flood.sent  # the network may lose some
    eventually(lambda: waiting(two) == 0, 10)
    _exchange_anew(one, two)
    assert confirmed(one, two)


def _drops(host: Host, names: tuple[str, ...]) -> int:
    drops = host.status()["drops"]
    return sum(drops[name] for name in names)


def _exchange_anew(one: Host, two: Host) -> None:
    """`one` initiates, and both have the new association."""
    before = one.association(two)
    assert before is not None
    one.ask("rotate", exchange=True)

    def renewed() -> bool:
        """there is another association, confirmed on both sides"""
        now = one.association(two)
        return (
            now is not None and now["local_index"] != before["local_index"] and confirmed(one, two)
        )

    eventually(renewed, 20)


def test_a_stranger_is_asked_for_cookies(make: Make, attacker: Attacker, tmp_path: Path) -> None:
    """In a mesh without a secret, where strangers can make mac1: a peer that roams still
    gets in, by a cookie if need be."""
    home, rover = make(2, roaming={2})
    frames = _right_mac1(attacker, rover, home)
    attacker.answers_reach(home)
    attacker.chance.shuffle(frames)
    # no more than the kernel lets through, but more than the daemon answers
    with flooding(attacker.namespace, frames, tmp_path / "frames", SECONDS, 150):
        eventually(lambda: home.ask("status")["cookies"] > 0)
        rover.reach(home, 20)
    assert confirmed(rover, home)


def test_what_the_data_path_goes_by_follows_the_daemon(make: Make) -> None:
    one, two = make(2, psks=[SECRET] * 2)
    with Maps.of(two.config) as maps:
        right = Initiator(
            maps.layout, keys.generate_private(), two.public, SECRET, 1, bytes(12)
        ).message
        with pytest.raises(BrineError, match="5 identities"):
            maps.accept_mac1([bytes([number]) * 32 for number in range(5)])

    def send() -> tuple[int, int]:
        """How often it was admitted and refused."""
        with (
            Maps.of(two.config) as maps,
            one.inside(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            before = maps.stats()
            sender.sendto(right, (str(two.underlay4.ip), PORT))

            def counted() -> bool:
                after = maps.stats()
                return any(after[name] != before[name] for name in names)

            names = "open_pass_exchange", "open_mac1"
            eventually(counted, 5, 0.05)
            after = maps.stats()
        passed, refused = (after[name][0] - before[name][0] for name in names)
        return passed, refused

    assert send() == (1, 0)
    two.set_mesh_secret(b"\x08" * 32)
    two.ask("reload")
    assert send() == (0, 1)
    two.set_mesh_secret(SECRET)
    two.ask("reload")
    assert send() == (1, 0)
    two.kill()
    two.start()
    assert send() == (1, 0)
    assert one.ping(two.inner4, 5) is not None
