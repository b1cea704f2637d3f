# SPDX-License-Identifier: GPL-3.0-or-later
"""An attacker on the underlay: sees every frame, keeps some from arriving, and sends any."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute

from brine.maps import Maps
from tests.integration.hosts import PORT, Host
from tests.integration.namespaces import Switch

NOISE = {"open_pass_other", "open_keepalive"}  # ARP and the like; what idle peers say


class Wire:
    """The cable to `host`, as seen from the switch."""

    def __init__(self, switch: Switch, host: Host) -> None:
        self.switch, self.host = switch, host
        with switch.namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((host.port, 0))

    def inject(self, frames: Iterable[bytes]) -> None:
        """Have `host` receive these frames."""
        for frame in frames:
            self._socket.send(frame)

    def effect(self, frames: list[bytes], seconds: float = 5) -> dict[str, int]:
        """What `open` counted when these came in, without the noise of an idle network."""
        before = stats(self.host)
        self.inject(frames)
        end = time.monotonic() + seconds
        while True:
            counted = {
                name: count - before.get(name, 0)
                for name, count in stats(self.host).items()
                if name.startswith("open_") and count > before.get(name, 0)
            }
            if sum(counted.values()) >= len(frames) or time.monotonic() > end:
                break
            time.sleep(0.02)
        if any(name not in NOISE for name in counted):
            counted = {name: count for name, count in counted.items() if name not in NOISE}
        return counted

    def close(self) -> None:
        self._socket.close()


@contextmanager
def cut(switch: Switch, host: Host) -> Iterator[None]:
    """Nothing from the switch reaches `host`, but for what a Wire injects."""

    def master(index: int) -> None:
        with switch.namespace.entered(), IPRoute() as ip:
            ip.link("set", ifname=host.port, master=index)

    with switch.namespace.entered(), IPRoute() as ip:
        bridge = ip.link_lookup(ifname="switch")[0]
    master(0)
    try:
        yield
    finally:
        master(bridge)


def stats(host: Host) -> dict[str, int]:
    """Packets by reason."""
    with Maps.of(host.config) as maps:
        return {name: packets for name, (packets, _bytes) in maps.stats().items()}


def payload_at(frame: bytes) -> int:
    """Where the UDP payload begins."""
    return 42 if frame[12:14] == b"\x08\x00" else 62


def is_message(frame: bytes, *kinds: int) -> bool:
    """Is it a datagram to brine's port with one of these message types?"""
    at = payload_at(frame)
    if len(frame) <= at or frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
        return False
    port: int = struct.unpack_from("!H", frame, at - 6)[0]
    return frame[23 if at == 42 else 20] == 17 and port == PORT and frame[at] in kinds


def from_host(frames: Iterable[bytes], host: Host, *kinds: int) -> list[bytes]:
    """Those of them that `host` sent and that are messages of these types."""
    sources = (host.underlay4.ip.packed, host.underlay6.ip.packed)
    return [
        frame
        for frame in frames
        if is_message(frame, *kinds) and (frame[26:30] == sources[0] or frame[22:38] == sources[1])
    ]


def sealed(
    switch: Switch, one: Host, two: Host, text: bytes, port: int, traffic_class: int = 0
) -> bytes:
    """The frame that carries a datagram from `one` to `two`, which does not arrive."""
    with cut(switch, two), switch.listen(one.port) as capture:
        with one.inside(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)
            sender.sendto(text, (str(two.inner4), port))
        end = time.monotonic() + 5
        while True:
            found = [
                frame for frame in from_host(capture.frames, one, 4) if len(frame) > 100 + len(text)
            ]
            if found or time.monotonic() > end:
                break
            time.sleep(0.01)
    (frame,) = found
    return frame


def listener(host: Host) -> socket.socket:
    """A UDP socket on the host's address in the mesh."""
    made = host.inside(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((str(host.inner4), 0))
    made.settimeout(5)
    return made


def silent(opened: socket.socket, seconds: float = 0.2) -> bool:
    """Whether nothing arrives."""
    opened.settimeout(seconds)
    try:
        opened.recv(1 << 16)
    except TimeoutError:
        return True
    finally:
        opened.settimeout(5)
    return False


def changed(frame: bytes, at: int, change: Callable[[int], int]) -> bytes:
    """`frame` with the byte at `at` changed."""
    return frame[:at] + bytes((change(frame[at]) & 255,)) + frame[at + 1 :]


def flipped(frame: bytes, bit: int, at: int) -> bytes:
    """`frame` with one bit flipped, counted from the byte at `at`, low bits first."""
    return changed(frame, at + bit // 8, lambda byte: byte ^ 1 << bit % 8)
