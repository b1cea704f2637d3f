# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts as network namespaces, joined by a veth pair: the bench's underlay.

Names carry the run's id, so that nothing of another run is met or left. Peers that
Debian packages run from a root file system of their own (`programs.py`), inside a
host's namespace.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MTU = 1500
UNDERLAY = "u0"


@dataclasses.dataclass
class Host:
    """One side: its namespace, its address below the tunnel and in it."""

    namespace: str
    underlay: str
    inner: str

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` on this host."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def run(self, *arguments: str, timeout: float = 60) -> str:
        """Run to the end; its standard output. Raises CalledProcessError."""
        done = subprocess.run(
            self.command(*arguments),
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def ip(self, *arguments: str) -> None:
        """Run ip(8) in the namespace."""
        subprocess.run(["ip", "-n", self.namespace, *arguments], check=True)


@dataclasses.dataclass
class Rig:
    """Both hosts, and the processes that a tunnel started on them."""

    run_id: str
    work: Path
    a: Host
    b: Host
    processes: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.a, self.b

    def start(self, host: Host, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a daemon that stays in the foreground; the rig ends it."""
        log = (self.work / f"{host.namespace}.log").open("ab")
        process = subprocess.Popen(
            host.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def processes_inside(self) -> list[int]:
        """All processes in the hosts' namespaces, also those that forked away."""
        found: list[int] = []
        for host in self.hosts:
            output = subprocess.run(
                ["ip", "netns", "pids", host.namespace], capture_output=True, text=True, check=False
            ).stdout
            found += [int(word) for word in output.split()]
        return found

    def memory(self) -> int:
        """Resident bytes of all processes on both hosts, shared pages counted in part."""
        total = 0
        for pid in self.processes_inside():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            except OSError:
                continue  # it ended meanwhile
            total += sum(int(line.split()[1]) for line in text.splitlines() if "Pss:" in line)
        return total * 1024

    def stop(self) -> None:
        """End everything that runs on the hosts."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.processes_inside():
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            deadline = time.monotonic() + 3
            while self.processes_inside() and time.monotonic() < deadline:
                time.sleep(0.05)
        for process in self.processes:
            process.wait(timeout=5)
        self.processes.clear()


def receive_on(host: Host, cpu: int) -> None:
    """Have all that arrives on the underlay handled on `cpu`: by a kernel thread of the device's
    own, bound to it (threaded NAPI), XDP programs included. Receive packet steering would come
    after XDP, and so move every peer's work but brine's.

    :raises RuntimeError: if the kernel made no such thread.
    """
    host.run("ethtool", "-K", UNDERLAY, "gro", "on")  # without, a veth device has no NAPI
    before = napi_threads()
    # /sys shows the namespace it was mounted in: ip netns exec mounts a fresh one.
    host.run("sh", "-c", f"echo 1 > /sys/class/net/{UNDERLAY}/threaded")
    made = napi_threads() - before
    if not made:
        raise RuntimeError("the kernel made no NAPI thread")
    for pid in made:
        os.sched_setaffinity(pid, {cpu})


def napi_threads() -> set[int]:
    """The kernel threads that poll underlay devices."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it ended meanwhile
            if path.read_text(encoding="utf-8").startswith(f"napi/{UNDERLAY}-"):
                found.add(int(path.parent.name))
    return found


@contextmanager
def rig(run_id: str, work: Path, *, spread: bool = False) -> Iterator[Rig]:
    """Make the two hosts, and remove them with all that runs on them.

    :param spread: receive work of the two hosts on different CPUs, as two machines
        would have it; otherwise as the kernel places it.
    """
    a = Host(f"bench-{run_id}-a", "192.0.2.1", "198.18.0.1")
    b = Host(f"bench-{run_id}-b", "192.0.2.2", "198.18.0.2")
    made = Rig(run_id, work, a, b)
    try:
        for host in made.hosts:
            subprocess.run(["ip", "netns", "add", host.namespace], check=True)
            host.ip("link", "set", "lo", "up")
        a.ip(
            *("link", "add", UNDERLAY, "mtu", str(MTU), "type", "veth"),
            *("peer", "name", UNDERLAY, "mtu", str(MTU), "netns", b.namespace),
        )
        for number, host in enumerate(made.hosts):
            host.ip("address", "add", f"{host.underlay}/24", "dev", UNDERLAY)
            host.ip("link", "set", UNDERLAY, "up")
            if spread:
                cpus = sorted(os.sched_getaffinity(0))
                receive_on(host, cpus[number % len(cpus)])
        yield made
    finally:
        made.stop()
        for host in made.hosts:
            subprocess.run(["ip", "netns", "delete", host.namespace], check=False)
