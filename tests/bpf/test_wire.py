# SPDX-License-Identifier: GPL-3.0-or-later
"""`seal` and `open` attached, between two network namespaces, under real traffic."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import struct
import threading
from pathlib import Path

import nacl.bindings
import pytest

from tests.bpf import packets
from tests.bpf.host import PORT, Keys
from tests.bpf.wire import (
    INDEX,
    OVERLAY,
    PEER,
    SLOT,
    UNDERLAY,
    Cable,
    Machine,
    inside,
    run,
    settle,
)


def text_of(frame: bytes, family: int, keys: Keys) -> bytes:
    """What NaCl opens of a frame that the first machine sealed."""
    message = frame[14 + (20 if family == 4 else 40) + 8 :]
    lane, counter = message[3], struct.unpack_from("<Q", message, 8)[0]
    nonce = keys.send.nonce + struct.pack("<Q", lane << 56 | counter)
    return nacl.bindings.crypto_secretbox_open(message[16:], nonce, keys.send.key)


def say(cable: Cable, inner: int, payload: bytes) -> bytes:
    """A datagram from the first machine's overlay address to the second's; it must arrive.
    Returns the frame that carried it."""
    with cable.a.udp(inner) as sender, cable.b.udp(inner) as receiver:
        sender.sendto(payload, receiver.getsockname()[:2])
        arrived, source = receiver.recvfrom(65536)
        assert arrived == payload
        assert source[0] == OVERLAY[0][inner]
    return cable.sent()


@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize("outer", [4, 6])
def test_datagrams_cross(bpf_object: Path, outer: int, mode: str) -> None:
    with Cable(bpf_object, family=outer, mode=mode) as cable:
        for inner in (4, 6):
            payload = b"a known pattern " * 10 + os.urandom(16)
            frame = say(cable, inner, payload)
            assert b"known pattern" not in frame
            text = text_of(frame, outer, cable.keys)
            assert text.endswith(payload)
            assert text[0] >> 4 == inner
            # What bpf_redirect_neigh made of the headers that seal left to it.
            ethertype = packets.ETH_P_IP if outer == 4 else packets.ETH_P_IPV6
            assert frame[12:14] == struct.pack("!H", ethertype)
            assert frame[:6] not in {bytes(6), b"\xff" * 6}
            assert frame[14] >> 4 == outer
            if outer == 4:
                assert packets.checksum(frame[14:34]) == 0
        for machine, name in ((cable.a, "seal_ok"), (cable.b, "open_ok")):
            assert machine.host.stats()[name] >= 2


def ping(machine: Machine, *arguments: str) -> None:
    run("ip", "netns", "exec", machine.name, "ping", "-q", "-W", "5", *arguments)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_ping_of_every_size(bpf_object: Path, mode: str) -> None:
    with Cable(bpf_object, mode=mode) as cable:
        for inner in (4, 6):
            for size in (0, 1, 56, 1000, 1420 - (28 if inner == 4 else 48), 4000):
                ping(cable.a, "-c", "2", "-i", "0.01", "-s", str(size), OVERLAY[1][inner])
        bad = {name for name in cable.a.host.stats() if name.startswith("seal")}
        assert bad <= {"seal_ok", "seal_no_route"}  # the stack's own multicast has no route


def transfer(cable: Cable, inner: int, total: int) -> None:
    """So many bytes over TCP, the same on both ends."""
    family = socket.AF_INET if inner == 4 else socket.AF_INET6
    with inside(cable.b.name):
        listener = socket.create_server((OVERLAY[1][inner], 0), family=family)
    listener.settimeout(20)
    digest = hashlib.sha256()
    received = 0

    def serve() -> None:
        nonlocal received
        connection, _ = listener.accept()
        connection.settimeout(20)
        with connection:
            while data := connection.recv(1 << 16):
                digest.update(data)
                received += len(data)

    thread = threading.Thread(target=serve)
    thread.start()
    data = os.urandom(1 << 20) * (total >> 20)
    with inside(cable.a.name):
        client = socket.socket(family, socket.SOCK_STREAM)
    with client:
        client.settimeout(20)
        client.connect(listener.getsockname()[:2])
        client.sendall(data)
    thread.join()
    listener.close()
    assert received == len(data)
    assert digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("mode", "inner", "outer"), [("native", 4, 4), ("native", 6, 4), ("generic", 4, 6)]
)
def test_tcp_is_whole(bpf_object: Path, mode: str, inner: int, outer: int) -> None:
    """Clones, retransmissions, segments cut by the stack: none is sealed in place."""
    with Cable(bpf_object, family=outer, mode=mode) as cable:
        transfer(cable, inner, 16 << 20)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_jumbo_frames(bpf_object: Path, mode: str) -> None:
    """An underlay of 9000 is more than a page: frames in fragments, natively. Before Linux 6.3
    such frames cannot be redirected: there the data path is not attached natively (survey.py),
    and only what fits one buffer is promised."""
    release = tuple(map(int, platform.release().split(".")[:2]))
    if mode == "native" and release < (6, 3):
        with Cable(bpf_object, mode=mode, mtu=9000) as cable:
            for size in (1000, 3000, 3400 - 28):
                assert len(say(cable, 4, os.urandom(size))) == 14 + 60 + 28 + size
        return
    with Cable(bpf_object, mode=mode, mtu=9000) as cable:
        for size in (3000, 3600, 4096, 8000, 8920 - 28):
            frame = say(cable, 4, os.urandom(size))
            assert len(frame) == 14 + 60 + 28 + size
        transfer(cable, 6, 8 << 20)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_a_vlan_tag_in_the_frame(bpf_object: Path, mode: str) -> None:
    """As a driver without VLAN offload hands it over."""
    with (
        Cable(bpf_object, mode=mode) as cable,
        cable.b.udp(4) as receiver,
        cable.a.raw("underlay") as wire,
    ):
        port = receiver.getsockname()[1]
        text = packets.udp_packet(OVERLAY[0][4], OVERLAY[1][4], b"tagged", ports=(9, port))
        send = cable.keys.send
        message = packets.data(send.key, send.nonce, INDEX[1], text, counter=1000)
        outer = packets.udp_packet(UNDERLAY[0][4], UNDERLAY[1][4], message)
        wire.send(packets.ethernet(outer, vlan=5))
        assert receiver.recv(100) == b"tagged"


@pytest.mark.parametrize("outer", [4, 6])
def test_a_keepalive_request_as_the_daemon_writes_it(bpf_object: Path, outer: int) -> None:
    """Through a packet socket, where the stack guesses a transport header."""
    request = packets.ipv6("::", "::", struct.pack("<II", PEER, 0), next_header=253)
    with Cable(bpf_object, family=outer) as cable, cable.a.raw("brine0") as daemon:
        daemon.send(packets.ethernet(request))
        frame = cable.sent()
        assert len(frame) == 14 + {4: 60, 6: 80}[outer]
        assert text_of(frame, outer, cable.keys) == b""
        settle(lambda: cable.b.host.state(SLOT) == "confirmed")
        assert cable.b.host.stats()["open_keepalive"] == 1


@pytest.mark.parametrize("outer", [4, 6])
def test_a_tunnel_inside_the_mesh(bpf_object: Path, outer: int) -> None:
    """VXLAN over brine0: the stack marks its packets as encapsulated."""
    with Cable(bpf_object, family=outer) as cable:
        for machine, inner in ((cable.a, 4), (cable.b, 4)):
            own, other = OVERLAY[machine.number][inner], OVERLAY[1 - machine.number][inner]
            for command in (
                f"link add vx type vxlan id 9 dstport 4789 local {own} remote {other} dev brine0",
                "link set vx mtu 1300 up",
                f"addr add 172.30.0.{machine.number + 1}/24 dev vx",
            ):
                run("ip", "-n", machine.name, *command.split())
        ping(cable.a, "-c", "3", "-i", "0.01", "172.30.0.2")
        ping(cable.a, "-c", "1", "-s", "1200", "172.30.0.2")


RUNTS = {
    "an IPv4 header cut short": b"\x45" + bytes(12),
    "an IPv6 header cut short": packets.udp_packet(OVERLAY[0][6], OVERLAY[1][6], b"")[:36],
    "nothing": b"",
}


@pytest.mark.parametrize("name", RUNTS)
def test_runts_die(bpf_object: Path, name: str) -> None:
    """The kernel's test run takes none of these."""
    ethertype = packets.ETH_P_IPV6 if "IPv6" in name else packets.ETH_P_IP
    frame = packets.MAC_B + packets.MAC_A + struct.pack("!H", ethertype) + RUNTS[name]
    with Cable(bpf_object) as cable, cable.a.raw("brine0") as stack:
        cable.a.host.stats()
        stack.send(frame)
        found: dict[str, int] = {}

        def seen() -> bool:
            for reason, count in cable.a.host.stats().items():
                found[reason] = found.get(reason, 0) + count
            return "seal_not_ip" in found

        settle(seen)


def test_too_big_dies(bpf_object: Path) -> None:
    with Cable(bpf_object) as cable, cable.a.raw("brine0") as stack:
        run("ip", "-n", cable.a.name, "link", "set", "brine0", "mtu", "12000")
        run("ip", "-n", cable.a.name, "link", "set", "brine0p", "mtu", "12000")
        big = packets.ipv4(OVERLAY[0][4], OVERLAY[1][4], bytes(9217 - 20), protocol=99)
        stack.send(packets.ethernet(big))
        settle(lambda: "seal_too_big" in cable.a.host.stats())


def test_the_stack_says_packet_too_big(bpf_object: Path) -> None:
    """Path MTU discovery inside the mesh is the stack's: brine0's MTU leaves room to seal."""
    with Cable(bpf_object) as cable, cable.a.udp(4) as sender:
        sender.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        sender.sendto(bytes(1420 - 28), (OVERLAY[1][4], 9))
        with pytest.raises(OSError, match="too long"):
            sender.sendto(bytes(1421 - 28), (OVERLAY[1][4], 9))


def test_plaintext_on_the_underlay_is_refused(bpf_object: Path) -> None:
    """The other machine's overlay address, in the clear, as an attacker on the cable has it."""
    with Cable(bpf_object) as cable, cable.b.udp(4) as receiver, cable.a.raw("underlay") as liar:
        port = receiver.getsockname()[1]
        inner = packets.udp_packet(OVERLAY[0][4], OVERLAY[1][4], b"trust me", ports=(9, port))
        mac = cable.b.host.read("config", "config", 0).brine0_mac
        liar.send(b"\xff" * 6 + bytes(mac) + b"\x08\x00" + inner)
        settle(lambda: "open_plaintext" in cable.b.host.stats())
        receiver.settimeout(0.2)
        with pytest.raises(TimeoutError):
            receiver.recv(100)


def test_without_an_association_nothing_leaves(bpf_object: Path) -> None:
    with Cable(bpf_object) as cable:
        cable.a.host.erase(SLOT)
        with cable.a.udp(4) as sender:
            sender.sendto(b"not in the clear", (OVERLAY[1][4], PORT))
        settle(lambda: "seal_no_box" in cable.a.host.stats())
        punted = [event for event in cable.a.host.events() if event[3].endswith(b"the clear")]
        assert [event[:3] for event in punted] == [("EVENT_PUNT_SEND", PEER, 0)]
        cable.ear.settimeout(0.2)
        with pytest.raises(TimeoutError):
            cable.sent()
