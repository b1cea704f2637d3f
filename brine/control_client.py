# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a running `brined` through its control socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from brine.errors import BrineError

TIMEOUT = 10.0  #: s; the daemon answers between two packets


class NotRunning(BrineError):
    """Nobody listens at the control socket."""

    def __init__(self) -> None:
        super().__init__("brined does not run", "start it: systemctl start brined")


def request(path: Path, verb: str, timeout: float = TIMEOUT, **arguments: Any) -> dict[str, Any]:
    """The daemon's answer to `verb`: status, rotate or reload.

    :param path: ``Paths.control_socket``.
    :raises NotRunning: if no daemon listens.
    :raises BrineError: if it refuses, or does not answer in time.
    """
    line = json.dumps({**arguments, "verb": verb}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(line)
            data = bytearray()
            while not data.endswith(b"\n"):
                part = connection.recv(1 << 16)
                if not part:
                    raise ConnectionResetError
                data += part
            answer = json.loads(data)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning from None
        except PermissionError:
            raise BrineError(f"{path} may not be opened", "run as root") from None
        except (OSError, ValueError):
            raise BrineError(
                "brined did not answer", "look at its journal: journalctl -u brined"
            ) from None
    if "error" in answer:
        raise BrineError(answer["error"]["cause"], answer["error"]["next_step"])
    found: dict[str, Any] = answer["ok"]
    return found
