# SPDX-License-Identifier: GPL-3.0-or-later
"""Congestion notification and DSCP through the tunnel: RFC 6040, normal mode."""

from __future__ import annotations

import pytest

from tests.bpf import packets
from tests.bpf.host import XDP_DROP, XDP_REDIRECT, Host
from tests.bpf.receiver import Receiver
from tests.bpf.sender import Sender

NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
DSCP_EF = 46 << 2

# RFC 6040, figure 4: (inner, outer) -> outgoing; None: drop
DECAPSULATION = {
    (NOT_ECT, NOT_ECT): NOT_ECT,
    (NOT_ECT, ECT0): NOT_ECT,
    (NOT_ECT, ECT1): NOT_ECT,
    (NOT_ECT, CE): None,
    (ECT0, NOT_ECT): ECT0,
    (ECT0, ECT0): ECT0,
    (ECT0, ECT1): ECT1,
    (ECT0, CE): CE,
    (ECT1, NOT_ECT): ECT1,
    (ECT1, ECT0): ECT1,
    (ECT1, ECT1): ECT1,
    (ECT1, CE): CE,
    (CE, NOT_ECT): CE,
    (CE, ECT0): CE,
    (CE, ECT1): CE,
    (CE, CE): CE,
}


def traffic_class(packet: bytes) -> int:
    """Of an IPv4 or IPv6 packet."""
    if packet[0] >> 4 == 4:
        return packet[1]
    return (packet[0] << 4 | packet[1] >> 4) & 0xFF


@pytest.mark.parametrize("outer_family", [4, 6])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("inner", "outer"), DECAPSULATION)
def test_decapsulation(host: Host, inner: int, outer: int, family: int, outer_family: int) -> None:
    scene = Receiver(host)
    expected = DECAPSULATION[inner, outer]
    text = scene.inner(family, traffic_class=DSCP_EF | inner)
    # The outer DSCP is the network's own and must not come through.
    frame = scene.frame(scene.data(text), outer_family, traffic_class=0x60 | outer)
    run = host.open(frame)
    if expected is None:
        assert run.value == XDP_DROP
        assert host.stats() == {"open_ecn": 1}
        return
    assert run.value == XDP_REDIRECT
    # The inner packet built anew with that codepoint, checksum and all.
    assert run.data == scene.delivered(scene.inner(family, traffic_class=DSCP_EF | expected))


@pytest.mark.parametrize("payload", [bytes(2), b"\xff\xff", b"\x12\x34"])
@pytest.mark.parametrize("tos", range(0, 256, 5))
def test_the_ipv4_checksum_follows(host: Host, tos: int, payload: bytes) -> None:
    """RFC 1624's corner: sums that are zero or all ones."""
    scene = Receiver(host)
    text = scene.inner(4, payload, traffic_class=tos & ~3 | ECT0)
    run = host.open(scene.frame(scene.data(text), traffic_class=CE))
    assert run.value == XDP_REDIRECT
    assert packets.checksum(run.data[14:34]) == 0
    assert run.data[15] == tos & ~3 | CE


@pytest.mark.parametrize("copy_dscp", [False, True])
@pytest.mark.parametrize("outer_family", [4, 6])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("codepoint", [NOT_ECT, ECT1, ECT0, CE])
def test_encapsulation(
    host: Host, codepoint: int, family: int, outer_family: int, copy_dscp: bool
) -> None:
    """The outer codepoint is the inner one, CE too; the DSCP is copied where asked."""
    scene = Sender(host, outer_family, copy_dscp=copy_dscp)
    sealed = scene.seal(scene.inner(family, traffic_class=DSCP_EF | codepoint))
    assert traffic_class(sealed) == (DSCP_EF if copy_dscp else 0) | codepoint
    assert scene.text(sealed) == scene.inner(family, traffic_class=DSCP_EF | codepoint)
