# SPDX-License-Identifier: GPL-3.0-or-later
"""The outer header's own fields, end to end: ECN, DSCP, VLAN tags, source ports."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.bpf.packets import checksum
from tests.integration.conftest import Make
from tests.integration.hosts import Host
from tests.integration.namespaces import Switch
from tests.integration.test_attacks import Scene
from tests.integration.wire import from_host, listener, sealed, silent

EF = 0xB8  # RFC 3246: DSCP 46
NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3


def outer_class(frame: bytes) -> int:
    """The traffic class of the outer header."""
    if frame[14] >> 4 == 4:
        return frame[15]
    return (frame[14] << 4 | frame[15] >> 4) & 255


def marked(frame: bytes, ecn: int) -> bytes:
    """As a router that puts this codepoint into the outer header."""
    if frame[14] >> 4 == 6:
        return frame[:15] + bytes((frame[15] & 0xCF | ecn << 4,)) + frame[16:]
    header = frame[14:15] + bytes((frame[15] & 0xFC | ecn,)) + frame[16:24] + b"\0\0" + frame[26:34]
    return frame[:14] + header[:10] + struct.pack("!H", checksum(header)) + header[12:] + frame[34:]


def sender_of(one: Host, traffic_class: int) -> socket.socket:
    made = one.inside(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)
    return made


@pytest.mark.parametrize("version", [4, 6])
def test_dscp_by_policy(make: Make, switch: Switch, version: int) -> None:
    """Copied if the configuration says so; the ECN bits always are (RFC 6040, 4.1)."""
    one, two = make(2, version)
    one.reach(two)
    with listener(two) as receiver, sender_of(one, EF | ECT0) as sender:
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        for copied in (False, True):
            one.change(copy_dscp=copied)
            one.apply()
            with switch.listen(one.port) as capture:
                sender.sendto(b"X" * 77, receiver.getsockname())
                data, ancillary, _, _ = receiver.recvmsg(100, 100)
            assert data == b"X" * 77
            assert ancillary == [(socket.IPPROTO_IP, socket.IP_TOS, bytes((EF | ECT0,)))]
            classes = {outer_class(frame) for frame in from_host(capture.frames, one, 4)
                       if len(frame) > 177}  # fmt: skip
            assert classes == {EF | ECT0 if copied else ECT0}


class Marked(Scene):
    def held(self, inner: int) -> bytes:
        """One more datagram that does not arrive, of this inner codepoint."""
        port = self.listener.getsockname()[1]
        return sealed(self.switch, self.one, self.two, b"Y" * 50, port, inner)


@pytest.fixture(params=[4, 6])
def scene(make: Make, switch: Switch, request: pytest.FixtureRequest) -> Iterator[Marked]:
    made = Marked(make, switch, request.param)
    yield made
    made.close()


def test_congestion_reaches_the_inside(scene: Marked) -> None:
    """RFC 6040, 4.2: what routers mark outside, the receiver inside sees."""
    scene.listener.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    for inner, outer, seen in (
        (ECT0, CE, CE), (ECT1, CE, CE), (ECT0, ECT1, ECT1), (CE, NOT_ECT, CE),
        (ECT0, NOT_ECT, ECT0), (NOT_ECT, ECT0, NOT_ECT),
    ):  # fmt: skip
        assert scene.wire.effect([marked(scene.held(inner), outer)]) == {"open_ok": 1}
        _, ancillary, _, _ = scene.listener.recvmsg(100, 100)
        assert [value[0] & 3 for _, _, value in ancillary] == [seen]
    # Not able to tell its sender of congestion: the drop tells it.
    assert scene.wire.effect([marked(scene.held(NOT_ECT), CE)]) == {"open_ecn": 1}
    assert silent(scene.listener)


def test_vlan_tags_in_the_frame(scene: Marked) -> None:
    """As drivers without the offload hand them over: any one tag; two are nothing of ours."""
    for tag in (0, 5, 0x6005):
        frame = scene.held(NOT_ECT)
        tagged = frame[:12] + struct.pack("!HH", 0x8100, tag) + frame[12:]
        assert scene.wire.effect([tagged]) == {"open_ok": 1}
        assert scene.listener.recv(100) == b"Y" * 50
    frame = scene.held(NOT_ECT)
    twice = frame[:12] + struct.pack("!HHHH", 0x8100, 1, 0x8100, 2) + frame[12:]
    assert scene.wire.effect([twice]) == {"open_pass_other": 1}
    assert silent(scene.listener)


def test_a_port_for_each_flow(make: Make, switch: Switch) -> None:
    """Receive-side scaling tells flows apart by it; one flow keeps its own."""
    one, two = make(2)
    one.reach(two)
    ports: list[set[bytes]] = []
    with listener(two) as receiver:
        for _ in range(8):
            with sender_of(one, 0) as sender, switch.listen(one.port) as capture:
                for _ in range(5):
                    sender.sendto(b"Z" * 200, receiver.getsockname())
                    receiver.recv(300)
            frames = [frame for frame in from_host(capture.frames, one, 4) if len(frame) > 300]
            assert len(frames) == 5
            ports.append({frame[34:36] for frame in frames})
    assert all(len(of_flow) == 1 for of_flow in ports)
    assert len(set().union(*ports)) >= 6
    assert all(int.from_bytes(port, "big") >= 0xC000 for of_flow in ports for port in of_flow)
