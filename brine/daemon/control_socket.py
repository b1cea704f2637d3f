# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's control socket: a line of JSON in, a line of JSON out.

    {"verb": "status"}              → {"ok": …}
    {"verb": "what is this"}        → {"error": {"cause": …, "next_step": …}}

Only root can open it; no client can make the daemon wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from brine.daemon.loop import Loop
from brine.errors import BrineError

Verb = Callable[[Mapping[str, Any]], Mapping[str, Any]]
CLIENTS = 16
REQUEST_MAX = 1 << 16
_BACKLOG = 128  # a client that does not wait is refused beyond it


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.request = bytearray()
        self.answer = b""


class ControlSocket:
    """Listens at `path`; `verbs` answer."""

    def __init__(self, loop: Loop, path: Path, verbs: Mapping[str, Verb]) -> None:
        self._loop = loop
        self._path = path
        self._verbs = verbs
        self._clients: list[_Client] = []
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )

    def open(self) -> None:
        """:raises BrineError: if the socket cannot be made."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # of an earlier run: the lock says it is gone
            mask = os.umask(0o177)
            try:
                self._listener.bind(str(self._path))
            finally:
                os.umask(mask)
            self._listener.listen(_BACKLOG)
        except OSError as error:
            raise BrineError(
                f"{self._path} cannot be made: {error.strerror}", "run brined as root"
            ) from None
        self._loop.watch(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= CLIENTS:
            self._close(self._clients[0])  # the oldest has had its time
        connection.setblocking(False)
        client = _Client(connection)
        self._clients.append(client)
        self._loop.watch(connection, lambda: self._read(client))

    def _read(self, client: _Client) -> None:
        if client not in self._clients:  # closed by what was handled just before
            return
        try:
            data = client.connection.recv(REQUEST_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.request += data
        if not data or len(client.request) > REQUEST_MAX:
            self._close(client)
        elif b"\n" in client.request:
            client.answer = self._answer(bytes(client.request).partition(b"\n")[0])
            self._loop.watch_write(client.connection, lambda: self._write(client))
            self._write(client)  # now: the verb may have been the last thing the loop does

    def _answer(self, line: bytes) -> bytes:
        try:
            answer: Mapping[str, Any] = {"ok": self._run(line)}
        except BrineError as error:
            answer = {"error": {"cause": error.cause, "next_step": error.next_step}}
        return json.dumps(answer).encode() + b"\n"

    def _run(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
            verb = self._verbs[request.pop("verb")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BrineError(
                "the daemon does not understand the request",
                "restart brined: it may be older than the command",
            ) from None
        return verb(request)

    def _write(self, client: _Client) -> None:
        if client not in self._clients:
            return
        try:
            sent = client.connection.send(client.answer)
        except BlockingIOError:
            return
        except OSError:
            sent = len(client.answer)
        client.answer = client.answer[sent:]
        if not client.answer:
            self._close(client)

    def _close(self, client: _Client) -> None:
        self._clients.remove(client)
        self._loop.forget(client.connection)
        client.connection.close()

    def close(self) -> None:
        for client in list(self._clients):
            self._close(client)
        with contextlib.suppress(KeyError, ValueError):
            self._loop.forget(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)
