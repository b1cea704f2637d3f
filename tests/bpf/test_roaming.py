# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf/roaming.h: which packets say that a peer is elsewhere, and from what port its own leave."""

from __future__ import annotations

import struct

import pytest

from tests.bpf import packets, sender
from tests.bpf.host import PORT, XDP_REDIRECT, Host, Keys, address
from tests.bpf.receiver import ASSOCIATION, INDEX, OURS, PEER, THEIRS, Receiver
from tests.bpf.sender import Sender

ELSEWHERE = {4: "203.0.113.77", 6: "2001:db8:77::7"}
OUTSIDE_PORT = 31000  # an address translator's choice
BURST = 128


def roam(host: Host, number: int, roaming: bool = True) -> None:
    peer = host.read("peers", "peer", number)
    peer.flags = host.loaded.enum("peer_flag")["PEER_ROAMING"] * roaming
    host.write("peers", number, peer)


def refill(host: Host) -> None:
    """Tokens for what may reach the daemon; the clock earns no more within a test."""
    limit = host.read("limits", "limit", PEER)
    limit.receive.tokens = BURST
    host.write("limits", PEER, limit)


class Scene(Receiver):
    """A receiver whose peer roams."""

    def __post_init__(self) -> None:
        super().__post_init__()
        roam(self.host, PEER)
        refill(self.host)
        # Confirms the association, which `open` then publishes, from where the peer is known.
        self.arrive(THEIRS[4], PORT, counter=0)
        self.host.events()

    def arrive(self, source: str, port: int, family: int = 4, **how: object) -> bool:
        """Whether a packet from there is delivered."""
        message = self.data(self.inner(), **how)
        datagram = packets.udp_packet(source, OURS[family], message, ports=(port, PORT))
        return self.host.open(packets.ethernet(datagram)).value == XDP_REDIRECT

    def moved(self) -> list[bytes]:
        """The endpoints that events told of since the last call."""
        found = self.host.events()
        assert {kind for kind, *_ in found} <= {"EVENT_MOVED"}
        assert {(peer, association) for _, peer, association, _ in found} <= {(PEER, ASSOCIATION)}
        return [data for *_, data in found]


def endpoint(source: str, port: int) -> bytes:
    return address(source) + struct.pack("!H", port) + bytes(6)


@pytest.fixture
def scene(host: Host) -> Scene:
    return Scene(host)


@pytest.mark.parametrize("family", [4, 6])
def test_elsewhere(scene: Scene, family: int) -> None:
    assert scene.arrive(ELSEWHERE[family], PORT, family, counter=1)
    assert scene.moved() == [endpoint(ELSEWHERE[family], PORT)]


def test_another_port_is_elsewhere(scene: Scene) -> None:
    assert scene.arrive(THEIRS[4], OUTSIDE_PORT, counter=1)
    assert scene.moved() == [endpoint(THEIRS[4], OUTSIDE_PORT)]


def test_where_it_is_known_to_be(scene: Scene) -> None:
    assert scene.arrive(THEIRS[4], PORT, counter=1)
    assert scene.moved() == []


def test_one_that_does_not_roam(scene: Scene) -> None:
    roam(scene.host, PEER, False)
    assert scene.arrive(ELSEWHERE[4], PORT, counter=1)
    assert scene.moved() == []


def test_late_packets_do_not_lead_back(scene: Scene) -> None:
    assert scene.arrive(THEIRS[4], PORT, counter=9)
    assert scene.arrive(ELSEWHERE[4], PORT, counter=8)
    assert scene.moved() == []
    assert scene.arrive(ELSEWHERE[4], PORT, counter=10)
    assert scene.moved() == [endpoint(ELSEWHERE[4], PORT)]


def test_replays_and_forgeries_lead_nowhere(scene: Scene) -> None:
    assert not scene.arrive(ELSEWHERE[4], PORT, counter=0)
    forged = bytearray(scene.data(scene.inner(), counter=1))
    forged[-1] ^= 1
    datagram = packets.udp_packet(ELSEWHERE[4], OURS[4], bytes(forged), ports=(PORT, PORT))
    scene.host.open(packets.ethernet(datagram))
    assert scene.host.stats() == {"open_ok": 1, "open_replay": 1, "open_forged": 1}
    assert scene.moved() == []


def test_an_older_association_leads_nowhere(scene: Scene) -> None:
    scene.host.install(ASSOCIATION + 1, PEER, Keys(), index=INDEX + 1, remote=5)
    assert scene.host.publish(ASSOCIATION + 1) == "DONE"
    assert scene.arrive(ELSEWHERE[4], PORT, counter=1)
    assert scene.moved() == []


def test_no_more_than_the_daemon_can_follow(scene: Scene) -> None:
    count = 3 * BURST
    for counter in range(1, count):
        assert scene.arrive(ELSEWHERE[4], PORT, counter=counter)
    # what the clock earned meanwhile comes on top: one every 10 ms
    assert 1 <= len(scene.moved()) < count - 1


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("who", ["the peer", "this host", "neither"])
def test_source_port(host: Host, family: int, who: str) -> None:
    scene = Sender(host, family)
    if who == "the peer":
        roam(host, sender.PEER)
    config = host.read("config", "config", 0)
    config.flags = host.loaded.enum("config_flag")["CONFIG_ROAMING"] * (who == "this host")
    host.write("config", 0, config)
    found = set()
    for flow in range(8):
        sealed = scene.seal(scene.inner(ports=(1000 + flow, 2000)))
        found.add(struct.unpack_from("!H", sealed, 20 if family == 4 else 40)[0])
    if who == "neither":
        assert PORT not in found
        assert len(found) > 1
    else:
        assert found == {PORT}
