# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's UDP sockets: one for each underlay source address.

Bound to that address and to the underlay device: what comes in was sent to
where peers send, and what goes out leaves from there, as the data path's
packets do. No socket is bound to a wildcard.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from brine.daemon.admission import Bucket
from brine.daemon.loop import Loop
from brine.daemon.timers import SECOND
from brine.errors import BrineError
from brine.roster import Address, Endpoint

BATCH = 64  #: datagrams read before timers and other descriptors have their turn
#: datagrams a second, and at once, that are read at all: `open` lets in fewer, but fragments
#: and packets with options pass it by
PACE = (2000, 8192)
_PAUSE = SECOND // 50  # before the next look once these are used up
_DATAGRAM_MAX = 1 << 16
_RECEIVE_BUFFER = 4 << 20  # a thousand peers may begin at once
# linux/in.h, linux/in6.h, asm-generic/socket.h, linux/udp.h; Python names none of them.
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_SO_RCVBUFFORCE = 33
# `seal` sends no UDP checksum, over IPv6 neither; data for an index that `open`
# does not know reaches this socket only with this.
_UDP_NO_CHECK6_RX = 102

Handle = Callable[[bytes, Endpoint], None]


@dataclass(frozen=True)
class Binding:
    """What the sockets are bound to; an address is None where there is no such family."""

    source4: Address | None
    source6: Address | None
    port: int
    interface: str
    index: int  #: of the interface, which may have been made anew


class Underlay:
    """Sends and receives datagrams; `handle` gets each with its source."""

    def __init__(self, loop: Loop, handle: Handle) -> None:
        self._loop = loop
        self._handle = handle
        self._sockets: dict[int, socket.socket] = {}  # by IP version
        self._pace = Bucket(*PACE, loop.timers.now())
        self._paused: set[socket.socket] = set()
        self.binding: Binding | None = None

    def bind(self, binding: Binding) -> None:
        """Bind as said, leaving what was bound before. No address, no socket.

        :raises BrineError: if an address or the port is taken, or the device is missing.
        """
        if binding == self.binding:
            return
        self.close()
        sources: Iterable[Address | None] = (binding.source4, binding.source6)
        addresses = [address for address in sources if address is not None]
        try:
            for address in addresses:
                bound = _open(address, binding)
                self._sockets[address.version] = bound
                self._watch(bound)
        except OSError as error:
            self.close()
            raise BrineError(
                f"UDP port {binding.port} cannot be bound on {binding.interface}: {error.strerror}",
                "see with `ss -ulnp` who has it, or set another brine_port",
            ) from None
        self.binding = binding

    def _watch(self, bound: socket.socket) -> None:
        self._loop.watch(bound, lambda: self._read(bound))

    def _read(self, bound: socket.socket) -> None:
        for _message in range(BATCH):
            if not self._pace.take(self._loop.timers.now()):
                self._pause(bound)
                return
            try:
                data, source = bound.recvfrom(_DATAGRAM_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram
            address = ipaddress.ip_address(str(source[0]).partition("%")[0])
            self._handle(data, Endpoint(address, int(source[1])))

    def _pause(self, bound: socket.socket) -> None:
        """Leave what comes to the socket's buffer, which drops what it cannot hold."""
        self._loop.forget(bound)
        self._paused.add(bound)

        def resume() -> None:
            if bound in self._paused:
                self._paused.remove(bound)
                self._watch(bound)

        self._loop.timers.after(_PAUSE, resume)

    def send(self, data: bytes, to: Endpoint) -> bool:
        """Whether the datagram left; losing one is what retries are for."""
        bound = self._sockets.get(to.address.version)
        if bound is None or self.binding is None:
            return False
        with contextlib.suppress(OSError):
            target: tuple[object, ...] = (str(to.address), to.port)
            if to.address.version == 6:
                target += (0, self.binding.index if to.address.is_link_local else 0)
            bound.sendto(data, target)
            return True
        return False

    def close(self) -> None:
        for bound in self._sockets.values():
            if bound not in self._paused:
                self._loop.forget(bound)
            bound.close()
        self._sockets.clear()
        self._paused.clear()
        self.binding = None


def _open(address: Address, binding: Binding) -> socket.socket:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    bound = socket.socket(
        family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_UDP
    )
    try:
        bound.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, binding.interface.encode() + b"\0"
        )
        with contextlib.suppress(PermissionError):
            bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            bound.setsockopt(socket.IPPROTO_UDP, _UDP_NO_CHECK6_RX, 1)
            bound.bind(
                (str(address), binding.port, 0, binding.index if address.is_link_local else 0)
            )
        else:
            # The address may come a moment later than we do (DHCP, duplicate detection).
            bound.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            bound.bind((str(address), binding.port))
    except BaseException:
        bound.close()
        raise
    return bound
