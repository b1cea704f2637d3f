# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces without names: they end with the last descriptor, so nothing of a test
stays behind, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

from pyroute2 import IPRoute

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18
_ETH_P_ALL = 3
_IFA_F_NODAD = 0x02
_HERE = "/proc/thread-self/ns/net"  # namespaces are the thread's, not the process's

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def private_mounts() -> None:
    """What this process and its children mount from now on, nobody else sees, and it ends with
    them."""
    _check(_libc.unshare(_CLONE_NEWNS), "make a mount namespace")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "keep mounts private")


def mount_bpffs(point: str) -> None:
    _check(_libc.mount(b"bpf", point.encode(), b"bpf", 0, b"mode=0700"), "mount a bpffs")


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self) -> None:
        here = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
            try:
                self.fd = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
                with IPRoute() as ip:
                    ip.link("set", index=1, state="up")
            finally:
                _check(_libc.setns(here, _CLONE_NEWNET), "return")
        finally:
            os.close(here)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and processes that it starts, are inside."""
        here = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, _CLONE_NEWNET), "enter a network namespace")
            try:
                yield
            finally:
                _check(_libc.setns(here, _CLONE_NEWNET), "return")
        finally:
            os.close(here)

    def close(self) -> None:
        os.close(self.fd)


class Switch:
    """A bridge in a namespace of its own; hosts hang on it by veth pairs."""

    def __init__(self) -> None:
        self.namespace = Namespace()
        with self.namespace.entered(), IPRoute() as ip:
            ip.link("add", ifname="switch", kind="bridge")
            ip.link("set", ifname="switch", state="up")

    def connect(
        self, namespace: Namespace, port: str, addresses: list[ipaddress.IPv4Interface | Any]
    ) -> None:
        """Give `namespace` an eth0 with these addresses; our end of it is `port`."""
        with self.namespace.entered(), IPRoute() as ip:
            ip.link(
                "add",
                ifname=port,
                kind="veth",
                peer={"ifname": "eth0", "net_ns_fd": namespace.fd},
            )
            bridge = ip.link_lookup(ifname="switch")[0]
            ip.link("set", ifname=port, master=bridge, state="up")
        with namespace.entered(), IPRoute() as ip:
            index = ip.link_lookup(ifname="eth0")[0]
            for address in addresses:
                ip.addr(
                    "add",
                    index=index,
                    address=str(address.ip),
                    prefixlen=address.network.prefixlen,
                    flags=_IFA_F_NODAD if address.version == 6 else 0,
                )
            ip.link("set", index=index, state="up")

    def listen(self, port: str) -> Capture:
        """Capture what passes `port`."""
        return Capture(self.namespace, port)

    def close(self) -> None:
        self.namespace.close()


class Capture:
    """Frames that pass a device, collected by a thread."""

    def __init__(self, namespace: Namespace, device: str) -> None:
        with namespace.entered():
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL)
            )
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self._socket.bind((device, _ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._frames: list[bytes] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.2)  # what is under way
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _collect(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                self._frames.append(self._socket.recv(1 << 16))

    @property
    def frames(self) -> list[bytes]:
        return list(self._frames)
