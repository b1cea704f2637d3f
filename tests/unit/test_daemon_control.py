# SPDX-License-Identifier: GPL-3.0-or-later
"""The control socket and its client, over a real socket and the real loop."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brine import control_client
from brine.control_client import NotRunning
from brine.daemon.control_socket import CLIENTS, REQUEST_MAX, ControlSocket
from brine.daemon.loop import Loop
from brine.daemon.timers import Timers
from brine.errors import BrineError
from brine.records import boot_ns

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


@pytest.fixture
def daemon(path: Path) -> Iterator[None]:
    def refuse(_request: object) -> dict[str, Any]:
        raise BrineError("it is so", "do something")

    loop = Loop(Timers(boot_ns))
    control = ControlSocket(
        loop,
        path,
        {
            "echo": dict,
            "much": lambda _: {"text": "x" * (4 << 20)},
            "refuse": refuse,
        },
    )
    control.open()
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield
    loop.stop()
    thread.join()
    control.close()
    loop.close()
    assert not path.exists()


@pytest.mark.usefixtures("daemon")
def test_a_verb_is_answered(path: Path) -> None:
    assert control_client.request(path, "echo", peer="lab1") == {"peer": "lab1"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("daemon")
def test_a_long_answer_arrives_whole(path: Path) -> None:
    assert len(control_client.request(path, "much")["text"]) == 4 << 20


@pytest.mark.usefixtures("daemon")
def test_errors_cross_with_cause_and_next_step(path: Path) -> None:
    with pytest.raises(BrineError) as failure:
        control_client.request(path, "refuse")
    assert (failure.value.cause, failure.value.next_step) == ("it is so", "do something")
    with pytest.raises(BrineError, match="does not understand"):
        control_client.request(path, "sing")


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b'{"verb": []}\n', b"\xff\xfe\n"])
def test_nonsense_is_answered_with_an_error(path: Path, line: bytes) -> None:
    with _connect(path) as connection:
        connection.sendall(line)
        answer = json.loads(connection.recv(4096))
    assert answer["error"]["cause"]


@pytest.mark.usefixtures("daemon")
def test_endless_and_idle_clients_do_not_keep_others_out(path: Path) -> None:
    idle = [_connect(path) for _ in range(CLIENTS + 4)]
    with _connect(path) as endless, pytest.raises(OSError, match=r"Broken pipe|reset"):
        endless.sendall(b"x" * 64 * REQUEST_MAX)
    assert control_client.request(path, "echo") == {}
    for connection in idle:
        connection.close()


@pytest.mark.usefixtures("daemon")
def test_a_client_that_leaves_early_harms_nobody(path: Path) -> None:
    for _ in range(3):
        with _connect(path) as connection:
            connection.sendall(b'{"verb": "much"}\n')
    assert control_client.request(path, "echo") == {}


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def test_without_a_daemon(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with pytest.raises(NotRunning):
        control_client.request(path, "status")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert os.path.exists(path)
    with pytest.raises(NotRunning):
        control_client.request(path, "status")


def test_a_daemon_that_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(BrineError, match="did not answer"):
            control_client.request(path, "status", timeout=0.1)
