# SPDX-License-Identifier: GPL-3.0-or-later
"""The service manager's notification socket: sd_notify(3) and sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the service manager, or nobody where none has asked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if self._address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        #: ns between two signs of life, or None: half of what the manager waits
        self.watchdog_interval = _watchdog(environment)

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), address)
        except OSError:
            return  # the manager is away; it will not restart us for that

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def failed(self, cause: str) -> None:
        """Say why the daemon ends before it was ready."""
        self._send(f"STATUS={cause}", "ERRNO=1")


def _watchdog(environment: Mapping[str, str]) -> int | None:
    pid = environment.get("WATCHDOG_PID")
    if pid is not None and pid != str(os.getpid()):
        return None
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds * 1000 // 2 if microseconds > 0 else None
