# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices when the host's addresses change, so that packets do not go on leaving from one
that it has no more (DHCP, another network), or from none if the first one came late.

The kernel says that something changed; what there is now is brine/sources.py's matter.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from brine.daemon.loop import Loop
from brine.daemon.timers import SECOND

SETTLE = SECOND  #: addresses come and go together, and new ones are tentative for a moment
_GROUPS = 0x10 | 0x100  # linux/rtnetlink.h: RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR


class Addresses:
    """Calls `changed` a second after the last of several changes, and again every second
    until it says that it is done."""

    def __init__(self, loop: Loop, changed: Callable[[], bool]) -> None:
        self._loop = loop
        self._changed = changed
        self._socket: socket.socket | None = None
        self._due: int | None = None

    def open(self) -> None:
        """:raises OSError: if the kernel gives no such socket."""
        opened = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
        )
        try:
            opened.bind((0, _GROUPS))
        except BaseException:
            opened.close()
            raise
        self._socket = opened
        self._loop.watch(opened, self._read)

    def close(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        except OSError:
            pass  # ENOBUFS: so many changes that some were not told
        self._soon()

    def _soon(self) -> None:
        timers = self._loop.timers
        if self._due is None:
            timers.after(SETTLE, self._settled)
        self._due = timers.now() + SETTLE

    def _settled(self) -> None:
        timers = self._loop.timers
        assert self._due is not None
        if timers.now() < self._due:
            timers.at(self._due, self._settled)
            return
        self._due = None
        if not self._changed():
            self._soon()
