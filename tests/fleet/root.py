# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated host's root directory, which a process enters for good.

hosts/NAME/root/    what the host has on its disk and in /run; the machine's /usr is mounted
                    into it, /proc, /sys and /dev too, as long as somebody is inside
hosts/NAME/memory/  what a real host would keep in its kernel and its processes
hosts/NAME/off      it cannot be reached
hosts/NAME/fault    this command fails there
hosts/NAME/cut      once this command has run, the controller cannot reach it
hosts/NAME/cut_off  so it has, and its peers still can
blobs/              large files that hosts were sent, which they share as hard links
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.labs import ROOT

USER = "admin"
_NEEDED = (
    *("dev", "etc/systemd/system", f"home/{USER}", "opt", "proc", "root", "run/systemd/system"),
    *("sys", "tmp", "usr", "usr-local/bin", "var/lib", "var/log", "var/tmp"),
)
_COPIED = ("group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd")
_SHARED = 1 << 16  # bytes; from here on a file is kept once for all hosts
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC = 1 << 12, 1 << 14
_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def bind(source: str, target: str, flags: int = 0) -> None:
    done = _libc.mount(source.encode(), target.encode(), None, _MS_BIND | flags, None)
    check(done, f"mount {source} at {target}")


@dataclass(frozen=True)
class SimulatedHost:
    fleet: Path
    name: str

    @property
    def directory(self) -> Path:
        return self.fleet / "hosts" / self.name

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def memory(self) -> Path:
        return self.directory / "memory"

    @property
    def daemon(self) -> Path:
        """What /proc says of the daemon's process."""
        return self.memory / "daemon"

    @property
    def is_off(self) -> bool:
        """For the controller."""
        return any((self.directory / name).exists() for name in ("off", "cut_off"))

    @property
    def fault(self) -> str | None:
        """The beginning of a command that fails here."""
        return self._told("fault")

    @property
    def cut(self) -> str | None:
        """The beginning of a command that works, and cuts the host off."""
        return self._told("cut")

    def _told(self, name: str) -> str | None:
        path = self.directory / name
        return path.read_text() if path.exists() else None

    def make(self) -> None:
        """Once; only one process at a time is concerned with a host."""
        if self.root.exists():
            return
        new = self.directory / "new"
        for needed in (*_NEEDED, *(path.lstrip("/") for path in _bound())):
            (new / needed).mkdir(parents=True, exist_ok=True)
        self.daemon.mkdir(parents=True, exist_ok=True)
        for name in _COPIED:
            shutil.copyfile(f"/etc/{name}", new / "etc" / name)
        with (new / "etc/passwd").open("a") as file:
            file.write(f"{USER}:x:1000:1000::/home/{USER}:/bin/sh\n")
        for name in ("bin", "lib", "lib32", "lib64", "sbin"):
            if os.path.islink(f"/{name}"):
                (new / name).symlink_to(os.readlink(f"/{name}"))
        new.rename(self.root)

    def enter(self, daemon_pid: int) -> None:
        """Be a process of this host from now on.

        daemon_pid: of a process that lives; /proc shows the daemon in its place.
        """
        root = str(self.root)
        check(_libc.unshare(_CLONE_NEWNS), "make a mount namespace")
        for path in _bound():
            bind(path, root + path)
        bind(f"{root}/usr-local", f"{root}/usr/local")
        for path in ("/proc", "/sys", "/dev"):
            bind(path, root + path, _MS_REC)
        bind(str(self.daemon), f"{root}/proc/{daemon_pid}")
        os.chroot(root)
        os.chdir("/root")

    def put(self, path: str, data: bytes) -> None:
        """Write a file, from outside."""
        target = self.root / path.lstrip("/")
        target.unlink(missing_ok=True)
        if len(data) < _SHARED:
            target.write_bytes(data)
            return
        blob = self.fleet / "blobs" / hashlib.sha256(data).hexdigest()
        if not blob.exists():
            new = blob.with_suffix(f".{os.getpid()}")
            new.write_bytes(data)
            with contextlib.suppress(FileExistsError):  # never in place of one that is there:
                os.link(new, blob)  # it may be about to be linked
            new.unlink()
        os.link(blob, target)

    def fetch(self, path: str) -> bytes:
        return (self.root / path.lstrip("/")).read_bytes()


def _bound() -> tuple[str, ...]:
    """Where the machine's programs are, and what this process may yet import."""
    return ("/usr", os.path.realpath(sys.prefix), str(ROOT))


def mount_sysfs() -> None:
    """That of the network namespace that this process is in."""
    check(_libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "mount sysfs")
