# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to a simulated host: what ssh would carry, over a socket to server.py."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: fleet
short_description: A host that tests/fleet simulates
description: Carries commands and files to the stand-in of a host.
author: The brine authors
version_added: "1.0"
options:
  server:
    description: The server's socket.
    required: true
    env: [{name: FLEET_SERVER}]
  pipelining:
    description: As for ssh.
    type: bool
    default: false
    ini: [{section: ssh_connection, key: pipelining}]
"""


class Connection(ConnectionBase):  # type: ignore[misc]
    transport = "fleet"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        answer, out, err = self._ask(in_data or b"", verb="run", command=cmd)
        return int(answer["code"]), out, err

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        self._transfer(Path(in_path).read_bytes(), verb="put", path=out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        Path(out_path).write_bytes(self._transfer(b"", verb="fetch", path=in_path))

    def close(self) -> None:
        self._connected = False

    def reset(self) -> None:
        self.close()

    def _transfer(self, data: bytes, **request: str) -> bytes:
        answer, out, err = self._ask(data, **request)
        if answer["code"]:
            raise AnsibleError(f"cannot {request['verb']} {request['path']}: {err.decode()}")
        return out

    def _ask(self, data: bytes, **request: str) -> tuple[dict[str, Any], bytes, bytes]:
        host = self._play_context.remote_addr
        head = {"host": host, "data": len(data), **request}
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(os.fspath(self.get_option("server")))
            # At once: nothing may be sent, not even no bytes, to who has answered already.
            connected.sendall(json.dumps(head).encode() + b"\n" + data)
            with connected.makefile("rb") as file:
                answer = json.loads(file.readline() or '{"off": true}')
                if "off" in answer:
                    raise AnsibleConnectionFailure(f"{host} is off")
                return answer, file.read(answer["out"]), file.read(answer["err"])
