# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing plaintext to `seal`: packets written to brine0 take the way of all others.

The daemon never seals. A keepalive is asked for by a packet that no socket can
send (bpf/maps.h, enum keepalive_request_field).
"""

from __future__ import annotations

import socket
import struct

from brine.layout import Layout

_ETHERNET = struct.Struct("!6s6sH")
_IPV6 = struct.Struct("!IHBB16s16s")
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_UNSPECIFIED = bytes(16)


class Injector:
    """A packet socket on `device`, opened anew when the device is."""

    def __init__(self, device: str, layout: Layout) -> None:
        self._device = device
        self._next_header = layout.enum("keepalive_request_field")["KEEPALIVE_REQUEST_NEXT_HEADER"]
        self._announce = layout.enum("keepalive_flag")["KEEPALIVE_ANNOUNCE"]
        self._socket: socket.socket | None = None
        self._address = bytes(6)
        self.failures = 0  #: packets that the device did not take

    def open(self) -> None:
        """:raises OSError: if the device is missing, or CAP_NET_RAW."""
        self.close()
        # Protocol 0: nothing is received.
        opened = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
        )
        try:
            opened.bind((self._device, 0))
            self._address = opened.getsockname()[4]
        except BaseException:
            opened.close()
            raise
        self._socket = opened

    def packet(self, packet: bytes) -> bool:
        """Have a whole IP packet sealed. Whether the device took it."""
        ethertype = _ETHERTYPES.get(packet[0] >> 4 if packet else 0)
        if ethertype is None:
            return False
        # The destination matters to nobody: `seal` looks before the stack would.
        frame = _ETHERNET.pack(b"\x02\0\0\0\0\1", self._address, ethertype) + packet
        for _attempt in range(2):
            try:
                if self._socket is None:
                    self.open()
                assert self._socket is not None
                self._socket.send(frame)
                return True
            except BlockingIOError:
                break
            except OSError:
                self.close()  # the device was made anew
        self.failures += 1
        return False

    def keepalive(self, peer: int, *, announce: bool = False) -> bool:
        """Have an empty packet sealed for the peer of that number; `announce`: with our
        newest association key, unless that is proved."""
        payload = struct.pack("<II", peer, self._announce if announce else 0)
        header = _IPV6.pack(6 << 28, len(payload), self._next_header, 1, _UNSPECIFIED, _UNSPECIFIED)
        return self.packet(header + payload)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
