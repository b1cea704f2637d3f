# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one lab host: boots it, reboots it when it asks, cleans up when it ends.

The nspawn_host module copies this file beside the host's disk and starts the
copy, because it has to outlive the module. It needs the standard library only.

    nspawn_supervisor.py run DIRECTORY              supervise until the host powers off
    nspawn_supervisor.py boot DIRECTORY GROUP...    one boot; becomes systemd-nspawn

DIRECTORY holds `spec.json` and the host's disk (`upper`). What lives and dies
with the running host is in the spec's `runtime` directory:

    lock     locked while the supervisor lives; holds its process id
    leader   process id of the host's init, as this machine counts
    ready    exists once the host's systemd has finished booting

Every boot gets fresh mount and network namespaces without a name, so that
a reboot starts from nothing, as on metal, and the kernel cleans up after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
PR_SET_PDEATHSIG = 1

# What systemd-nspawn --keep-unit exits with when the host asked for a reboot.
EXIT_FORCE_RESTART = 133

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise OSError if a libc call returned -1."""
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


# -- control groups -----------------------------------------------------------


def systemd_is_init() -> bool:
    """Whether systemd manages this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def hierarchies() -> list[Path]:
    """Mount points of the control group hierarchies that a systemd host needs.

    A pure version 2 machine has one. A hybrid one has version 2 beside the named
    version 1 hierarchy, and systemd-nspawn keeps its place in both.
    """
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, mount_point, kind, options = line.split()[:4]
        if not mount_point.startswith("/sys/fs/cgroup"):
            continue
        if kind == "cgroup2" or "name=systemd" in options.split(","):
            found.append(Path(mount_point))
    return found


def control_group(name: str) -> list[Path]:
    """The host's own group in every hierarchy.

    Under systemd it is the one that was delegated to our unit; elsewhere it is
    ours to make, at the root.
    """
    if systemd_is_init():
        own = Path("/proc/self/cgroup").read_text().split("0::/", 1)[1].splitlines()[0]
        return [root / own for root in hierarchies()]
    return [root / name for root in hierarchies()]


def enter(groups: list[Path], leaf: str) -> None:
    """Move this process into `leaf` of every group (version 2: only leaves hold processes)."""
    for group in groups:
        (group / leaf).mkdir(parents=True, exist_ok=True)
        (group / leaf / "cgroup.procs").write_text("0")


def remove_tree(group: Path) -> None:
    """Remove a group whose processes are gone, with the groups below it."""
    if group.is_dir():
        for child in group.iterdir():
            if child.is_dir():
                remove_tree(child)
        # A process may still be on its way out: the next boot reuses the group.
        with contextlib.suppress(OSError):
            group.rmdir()


# -- one boot -----------------------------------------------------------------


def ip(*arguments: str, namespace: str | None = None) -> None:
    """Run ip(8)."""
    where = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *where, *arguments], check=True, stdin=subprocess.DEVNULL)


def plug_in(spec: dict[str, t.Any]) -> None:
    """Give this process's network namespace an interface on the lab's bridge."""
    underlay, port = spec["underlay"], spec["name"]
    # The port of an earlier boot goes a moment after its namespace.
    subprocess.run(
        ["ip", "-n", underlay, "link", "delete", port],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ip(
        *("link", "add", port, "type", "veth"),
        *("peer", "name", spec["interface"], "netns", str(os.getpid())),
        namespace=underlay,
    )
    ip("link", "set", port, "master", spec["bridge"], "up", namespace=underlay)
    for address in spec["addresses"]:
        # Nobody else can hold it: an IPv6 address need not be tentative for a second.
        nodad = ["nodad"] if ":" in address else []
        ip("address", "add", address, "dev", spec["interface"], *nodad)
    ip("link", "set", "lo", "up")
    ip("link", "set", spec["interface"], "up")


def mount_disk(directory: Path, image: str) -> Path:
    """Lay the host's disk over the shared image, in this mount namespace only."""
    root, upper, work = (directory / name for name in ("root", "upper", "work"))
    subprocess.run(
        [
            *("mount", "-t", "overlay", "overlay"),
            *("-o", f"lowerdir={image},upperdir={upper},workdir={work}", str(root)),
        ],
        check=True,
    )
    return root


def mount_bpf(runtime: Path) -> Path:
    """Mount a fresh BPF file system, as systemd does at the boot of a real machine."""
    mount_point = runtime / "bpf"
    mount_point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(mount_point)], check=True)
    return mount_point


def boot(directory: Path, groups: list[Path]) -> None:
    """Set the namespaces up, then become systemd-nspawn. Never returns."""
    spec = json.loads((directory / "spec.json").read_text())
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    enter(groups, "host")
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount")
    plug_in(spec)
    root = mount_disk(directory, spec["image"])
    bpffs = mount_bpf(Path(spec["runtime"]))
    os.environ.update(
        # Roles set net.* sysctls; the others belong to this machine, not to the host.
        SYSTEMD_NSPAWN_API_VFS_WRITABLE="network",
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1",
    )
    os.execvp(
        "systemd-nspawn",
        [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--notify-ready=yes",
            f"--directory={root}",
            f"--bind={bpffs}:/sys/fs/bpf",
            f"--machine={spec['unit']}",
            f"--hostname={spec['name']}",
            # The namespaces and groups above are ours: no scope, no machined.
            "--register=no",
            "--keep-unit",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
            "--capability=all",
            "--system-call-filter=bpf perf_event_open",
        ],
    )


# -- supervision --------------------------------------------------------------


class Supervisor:
    """Boots the host until it powers off or the supervisor is told to stop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spec = json.loads((directory / "spec.json").read_text())
        self.runtime = Path(self.spec["runtime"])
        self.stopping = False
        self.lock = self.take_lock()
        self.groups = control_group(self.spec["unit"])
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def take_lock(self) -> int:
        """Lock the runtime directory for as long as this process lives."""
        lock = os.open(self.runtime / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        return lock

    def stop(self, _signal: int, _frame: object) -> None:
        """Pull the plug: the host's init, and the kernel everything under it."""
        self.stopping = True
        leader = self.runtime / "leader"
        if leader.exists():
            os.kill(int(leader.read_text()), signal.SIGKILL)

    def run(self) -> int:
        """Boot again and again. Returns the last exit status of systemd-nspawn."""
        enter(self.groups, "supervisor")
        status = EXIT_FORCE_RESTART
        try:
            while status == EXIT_FORCE_RESTART and not self.stopping:
                status = self.boot_once()
        finally:
            self.leave()
        return status

    def boot_once(self) -> int:
        """One boot, from start to power-off or reboot."""
        self.forget_boot()
        address = self.runtime / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.bind(str(address))
            process = subprocess.Popen(
                [sys.executable, __file__, "boot", str(self.directory), *map(str, self.groups)],
                env={**os.environ, "NOTIFY_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
            )
            ended = os.pidfd_open(process.pid)
            try:
                poll = select.poll()
                poll.register(notify, select.POLLIN)
                poll.register(ended, select.POLLIN)
                while not any(ready == ended for ready, _events in poll.poll()):
                    self.notified(notify.recv(4096).decode())
            finally:
                os.close(ended)
        status = process.wait()
        self.forget_boot()
        return status

    def notified(self, message: str) -> None:
        """Note what systemd-nspawn tells about the host (sd_notify(3))."""
        for line in message.splitlines():
            name, _equals, value = line.partition("=")
            if name == "X_NSPAWN_LEADER_PID":
                (self.runtime / "leader").write_text(value)
                if self.stopping:
                    os.kill(int(value), signal.SIGKILL)
            elif name == "READY" and value == "1":
                (self.runtime / "ready").touch()

    def forget_boot(self) -> None:
        """Remove what is true of one boot only."""
        for name in ("leader", "ready", "notify"):
            (self.runtime / name).unlink(missing_ok=True)

    def leave(self) -> None:
        """Undo everything outside the disk. Under systemd the unit's end does the groups."""
        self.forget_boot()
        # systemd-nspawn leaves this directory if it is killed.
        propagate = Path("/run/systemd/nspawn/propagate") / self.spec["unit"]
        if propagate.is_dir():
            propagate.rmdir()
        if not systemd_is_init():
            for root, group in zip(hierarchies(), self.groups, strict=True):
                (root / "cgroup.procs").write_text("0")
                remove_tree(group)


def main() -> int:
    verb, directory = sys.argv[1], Path(sys.argv[2])
    if verb == "boot":
        boot(directory, [Path(group) for group in sys.argv[3:]])
    return Supervisor(directory).run()


if __name__ == "__main__":
    raise SystemExit(main())
