# SPDX-License-Identifier: GPL-3.0-or-later
"""Structured logs: one line an event, `event key=value …`.

Where stderr is the journal, each value also becomes a field BRINE_KEY of the
native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL); elsewhere lines go to
stderr. What others can cause at will is logged at a bounded rate. Callers pass
names, key ids and numbers: never a key or a secret.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Mapping

ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7  # syslog(3)
LEVELS = {"error": ERROR, "warning": WARNING, "info": INFO, "debug": DEBUG}
_JOURNAL = "/run/systemd/journal/socket"
_BURST = 20  # lines of one event …
_PERIOD = 10.0  # … in so many seconds


class Log:
    """Writes events. `level`: the least urgent priority that is written."""

    def __init__(self, level: int, environment: Mapping[str, str] | None = None) -> None:
        self.level = level
        self._journal: socket.socket | None = None
        environment = os.environ if environment is None else environment
        if _is_journal(environment.get("JOURNAL_STREAM", "")):
            self._journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._budgets: dict[str, list[float]] = {}

    def error(self, event: str, **fields: object) -> None:
        self._write(ERROR, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write(WARNING, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write(INFO, event, fields)

    def debug(self, event: str, **fields: object) -> None:
        self._write(DEBUG, event, fields)

    def _write(self, priority: int, event: str, fields: Mapping[str, object]) -> None:
        if priority > self.level:
            return
        suppressed = self._spend(event)
        if suppressed is None:
            return
        if suppressed:
            fields = {**fields, "suppressed": suppressed}
        line = " ".join([event, *(f"{key}={_show(value)}" for key, value in fields.items())])
        if self._journal is not None:
            values = {"PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "brined", "MESSAGE": line}
            values |= {f"BRINE_{key.upper()}": str(value) for key, value in fields.items()}
            values["BRINE_EVENT"] = event
            try:
                self._journal.sendto(encode(values), _JOURNAL)
                return
            except OSError:
                pass  # the journal restarts: stderr keeps the line
        print(f"<{priority}>{line}", file=sys.stderr, flush=True)

    def _spend(self, event: str) -> int | None:
        """How many lines of this event were left out before it, or None: leave it out."""
        now = time.monotonic()
        budget = self._budgets.setdefault(event, [now, 0.0, 0.0])  # begin, written, left out
        if now - budget[0] >= _PERIOD:
            left_out = int(budget[2])
            budget[:] = [now, 1.0, 0.0]
            return left_out
        if budget[1] >= _BURST:
            budget[2] += 1
            return None
        budget[1] += 1
        return 0


def encode(fields: Mapping[str, str]) -> bytes:
    """Fields as a datagram of the native protocol."""
    parts = []
    for key, value in fields.items():
        data = value.encode(errors="replace")
        if b"\n" in data:
            parts.append(key.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(key.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def _is_journal(stream: str) -> bool:
    """Whether stderr is the stream that JOURNAL_STREAM (systemd.exec(5)) describes."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def _show(value: object) -> str:
    text = str(value)
    if text and all(character.isprintable() and character not in ' "=' for character in text):
        return text
    escaped = "".join(c if c.isprintable() else "?" for c in text).replace('"', "'")
    return f'"{escaped}"'
