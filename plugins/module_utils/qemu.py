# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines as hosts of a lab: what they keep, how they are reached, what runs them.

A machine keeps its state where every host of a lab does (see ``nspawn``):

    /var/cache/brine-lab/vm-SUITE-DIGEST/    disk.img, vmlinuz and initrd.img, by content
    /var/lib/brine-lab/LAB/HOST/             its disk over the image, its spec, its console log,
                                             the way of ssh to it
    /run/brine-lab/LAB/HOST/lock             locked while QEMU lives; holds its process id
    /run/brine-lab/accelerator               what QEMU runs machines with here
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import fcntl
import hashlib
import ipaddress
import os
import socket
import struct
import subprocess
import time
import typing as t
from pathlib import Path

from ansible_collections.brine.mesh.plugins.module_utils import nspawn

QEMU = "qemu-system-x86_64"
SSH_PORT = 22

CLONE_NEWNET = 0x40000000

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000

T = t.TypeVar("T")


def in_namespace(namespace: str, work: t.Callable[[], T]) -> T:
    """Call `work` in a named network namespace. What it opens there stays there.

    A thread may be in another namespace than its process (setns(2)), and takes
    that with it when it ends.
    """

    def enter_and_work() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}", "rb") as handle:
            if libc.setns(handle.fileno(), CLONE_NEWNET) == -1:
                error = ctypes.get_errno()
                raise OSError(error, f"enter network namespace {namespace}: {os.strerror(error)}")
        return work()

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(enter_and_work).result()


def open_tap(namespace: str, name: str, queues: int) -> list[int]:
    """A network interface in `namespace`, as one file descriptor for each queue.

    It vanishes with the last of them.
    """

    def open_queues() -> list[int]:
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
        request = struct.pack("16sH22x", name.encode(), flags)
        opened = []
        for _queue in range(queues):
            opened.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            fcntl.ioctl(opened[-1], TUNSETIFF, request)
        return opened

    return in_namespace(namespace, open_queues)


class Machine(nspawn.Host):
    """One virtual machine of a lab, running or not."""

    def __init__(self, lab: str, host: str) -> None:
        super().__init__(lab, host)
        self.disk = self.directory / "disk.qcow2"
        self.ssh_config = self.directory / "ssh_config"
        digest = hashlib.sha256(f"{lab}\0{host}".encode()).digest()
        self.mac = bytes([0x52, 0x54, 0x00]) + digest[:3]

    def address(self) -> ipaddress.IPv6Address:
        """The link-local address that its kernel gives itself (RFC 4291, appendix A).

        It needs no configuration, so ssh works before there is any and whatever
        becomes of it.
        """
        first, *others = self.mac
        interface = bytes([first ^ 0x02, *others[:2], 0xFF, 0xFE, *others[2:]])
        return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + interface)

    def ssh_config_text(self) -> str:
        """What of the lab's ssh configuration is particular to the machine."""
        enter = f"nsenter --net=/run/netns/{nspawn.network_namespace(self.lab)}"
        return f"""\
Host {self.name}
    ProxyCommand {enter} nc {self.address()}%%{nspawn.BRIDGE} {SSH_PORT}
    # A machine whose plug is pulled says no good-bye.
    ConnectTimeout 60
    ServerAliveInterval 15
    ServerAliveCountMax 4
"""

    def answers(self) -> bool:
        """Whether its sshd does."""

        def read_banner() -> bytes:
            index = socket.if_nametoindex(nspawn.BRIDGE)
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
                connection.settimeout(10)
                connection.connect((str(self.address()), SSH_PORT, 0, index))
                return connection.recv(4)

        try:
            return in_namespace(nspawn.network_namespace(self.lab), read_banner) == b"SSH-"
        except OSError:
            return False  # not up yet, or gone

    def wait_until_answers(self, seconds: float) -> None:
        """Wait for its sshd. Raises RuntimeError if it does not come in time."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if self.supervisor_pid() is None:
                raise RuntimeError(f"{self.name}: QEMU ended; see {self.console}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self.name} did not boot within {seconds:.0f} s; see {self.console}"
                )
            time.sleep(0.5)


def boots(accelerator: str, kernel: Path, seconds: float = 10) -> bool:
    """Whether QEMU boots `kernel` with the accelerator until the kernel speaks.

    Some machines offer /dev/kvm and then hang or fail as soon as it is used. The
    kernel gets no disk: it says its version, finds no root, and gives up.
    """
    process = subprocess.Popen(
        [
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-accel", accelerator, "-cpu", "host", "-m", "256", "-serial", "stdio"),
            *("-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        output, _errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _errors = process.communicate()
    return b"Linux version" in output


def accelerator(kernel: Path) -> str:
    """``kvm`` where it really boots a guest, else ``tcg``. Tried once a boot of this machine."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    nspawn.RUNTIME.mkdir(parents=True, exist_ok=True)
    with (nspawn.RUNTIME / "accelerator").open("a+") as memory:
        fcntl.flock(memory, fcntl.LOCK_EX)
        memory.seek(0)
        known = memory.read()
        if not known:
            known = "kvm" if boots("kvm", kernel) else "tcg"
            memory.write(known)
        return known


def take_lock(machine: Machine) -> int:
    """Lock the machine for as long as the file descriptor, or a copy of it, is open."""
    lock = os.open(machine.runtime / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    write_pid(lock, os.getpid())
    return lock


def write_pid(lock: int, pid: int) -> None:
    """Say whom to end in order to stop the machine."""
    os.pwrite(lock, f"{pid}\n".encode().ljust(20), 0)


@contextlib.contextmanager
def closing_descriptors(descriptors: list[int]) -> t.Iterator[None]:
    """Close them at the end: what was started has its own copies."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
