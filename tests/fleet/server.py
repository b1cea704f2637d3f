# SPDX-License-Identifier: GPL-3.0-or-later
"""Every simulated host of a fleet: `python -m tests.fleet.server DIRECTORY`.

Has imported what modules need, and forks for each request, so that a module costs what its code
costs and not a start of Python. All hosts have one network namespace, with an eth0.

A request is a line of JSON, {host, verb, data: bytes that follow, command or path}; so is the
answer, {code, out, err: bytes that follow}, or {off: true}.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from pyroute2 import IPRoute

from tests.fleet import module
from tests.fleet.commands import Commands
from tests.fleet.kernel import Kernel
from tests.fleet.root import SimulatedHost, mount_sysfs
from tests.integration.namespaces import Namespace, private_mounts

SOCKET = "server"
#: A line for each request: how many bytes it brought.
REQUESTS = "requests"
# What modules import, so that the forks have it.
_WARM = (
    *("ansible.module_utils.common.file", "ansible.module_utils.facts.system.chroot"),
    *("ansible.module_utils.service", "runpy", "tarfile", "zipfile"),
)
#: It takes a port for a moment to see whether that is free; the hosts have one namespace.
_ALONE = b"plugins.modules.preflight"


def serve(directory: Path) -> NoReturn:
    """Until a signal ends it."""
    for name in _WARM:
        importlib.import_module(name)
    private_mounts()
    namespace = Namespace()
    with namespace.entered(), socket.socket(socket.AF_UNIX) as listening:
        _make_underlay()
        mount_sysfs()
        (directory / "blobs").mkdir()
        listening.bind(str(directory / SOCKET))
        listening.listen(256)
        gc.freeze()
        while True:
            connected, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(directory, connected)
            connected.close()
            _reap()


def _make_underlay() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": "far"})
        for name in ("eth0", "far"):
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _answer(directory: Path, connected: socket.socket) -> NoReturn:
    """In a fork."""
    try:
        with connected, connected.makefile("rwb") as file:
            request = json.loads(file.readline())
            data = file.read(request["data"])
            _record(directory / REQUESTS, len(data))
            host = SimulatedHost(directory, request["host"])
            answer: dict[str, Any] = {"off": True}
            written = [b"", b""]
            if not host.is_off:
                host.make()
                code, written = _do(host, request, data)
                answer = {"code": code, "out": len(written[0]), "err": len(written[1])}
            file.write(json.dumps(answer).encode() + b"\n" + written[0] + written[1])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _record(path: Path, size: int) -> None:
    with path.open("a") as file:
        file.write(f"{size}\n")


def _do(host: SimulatedHost, request: dict[str, Any], data: bytes) -> tuple[int, list[bytes]]:
    """Exit status, and what was written to standard output and error."""
    if request["verb"] == "put":
        host.put(request["path"], data)
        return 0, [b"", b""]
    if request["verb"] == "fetch":
        return 0, [host.fetch(request["path"]), b""]
    files = [os.memfd_create(name) for name in ("out", "err")]
    kept = [os.dup(number) for number in (1, 2)]
    kernel = Kernel(host)
    daemon_pid = os.getppid()
    commands = Commands(kernel, host.fault, daemon_pid, host.cut)
    with (host.fleet / SOCKET).with_suffix(".lock").open("w") as lock:
        if _ALONE in data:
            fcntl.flock(lock, fcntl.LOCK_EX)
        for number, file in enumerate(files, 1):
            os.dup2(file, number)
        try:
            host.enter(daemon_pid)
            kernel.install()
            code = module.run(request["command"], data, commands)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            code = 1
        for number, file in enumerate(kept, 1):
            os.dup2(file, number)
    return code, [os.pread(file, os.fstat(file).st_size, 0) for file in files]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve(Path(sys.argv[1]))
