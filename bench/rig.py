# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts as network namespaces, joined by a veth pair or a wire: the bench's underlay.

How the work of the two is placed on this machine's CPUs:

    placed  as the kernel schedules it: a sender's CPU often does the receiver's work too
    spread  each host's underlay device is polled by a kernel thread on a CPU of its own
    wired   a CPU for each host and all that runs on it, and between them a wire (bpf/wire.bpf.c),
            as two machines of one CPU have it

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
PLACEMENTS = ("placed", "spread", "wired")
SOURCE = Path(__file__).parents[1]
#: of the wire's two ends: as wire.bpf.c wants them
_ENDS = ((10, "wa"), (11, "wb"))


@dataclasses.dataclass
class Host:
    """One side: its namespace, its address below the tunnel and in it."""

    namespace: str
    underlay: str
    inner: str
    cpu: int | None = None  #: where alone its processes run

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` on this host."""
        bound = [] if self.cpu is None else ["taskset", "--cpu-list", str(self.cpu)]
        return [*bound, "ip", "netns", "exec", self.namespace, *arguments]

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


def receive_on(host: Host, device: str, cpu: int) -> None:
    """Have all that arrives at the device handled on `cpu`: by a kernel thread of the device's
    own, bound to it (threaded NAPI), XDP programs included. Receive packet steering would come
    after XDP, and so move every peer's work but brine's.

    :raises RuntimeError: if the kernel made no such thread.
    """
    host.run("ethtool", "-K", device, "gro", "on")  # without, a veth device has no NAPI
    before = napi_threads(device)
    # /sys shows the namespace it was mounted in: ip netns exec mounts a fresh one.
    host.run("sh", "-c", f"echo 1 > /sys/class/net/{device}/threaded")
    made = napi_threads(device) - before
    if not made:
        raise RuntimeError("the kernel made no NAPI thread")
    for pid in made:
        os.sched_setaffinity(pid, {cpu})


def napi_threads(device: str) -> set[int]:
    """The kernel threads that poll devices of that name."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it ended meanwhile
            if path.read_text(encoding="utf-8").startswith(f"napi/{device}-"):
                found.add(int(path.parent.name))
    return found


def _join(a: Host, b: Host) -> None:
    """A veth pair between the two."""
    a.ip(
        *("link", "add", UNDERLAY, "mtu", str(MTU), "type", "veth"),
        *("peer", "name", UNDERLAY, "mtu", str(MTU), "netns", b.namespace),
    )


def _wire(wire: Host, hosts: tuple[Host, Host], work: Path, cpus: list[int]) -> None:
    """A wire between the two. What a host sends passes it on that host's CPU, as a network
    card's driver would; a full queue holds the sender back."""
    build = work / "wire"
    make = ["make", "--silent", "-C", str(SOURCE / "bpf"), f"BUILD={build}"]
    subprocess.run([*make, "SOURCE=../bench/bpf/wire.bpf.c"], check=True, stdout=subprocess.DEVNULL)
    for host, (index, end), cpu in zip(hosts, _ENDS, cpus, strict=True):
        wire.ip(
            *("link", "add", end, "index", str(index), "mtu", str(MTU), "type", "veth"),
            *("peer", "name", UNDERLAY, "mtu", str(MTU), "netns", host.namespace),
        )
        wire.ip("link", "set", end, "xdp", "obj", str(build / "wire.bpf.o"), "sec", "xdp")
        wire.ip("link", "set", end, "up")
        receive_on(wire, end, cpu)
        # A frame keeps no note that its checksum is still to be made.
        host.run("ethtool", "-K", UNDERLAY, "tx", "off")
        host.run("tc", "qdisc", "replace", "dev", UNDERLAY, "root", "pfifo")


@contextmanager
def rig(run_id: str, work: Path, placement: str = "spread") -> Iterator[Rig]:
    """Make the two hosts, and remove them with all that runs on them.

    :param placement: of PLACEMENTS.
    """
    a = Host(f"bench-{run_id}-a", "192.0.2.1", "198.18.0.1")
    b = Host(f"bench-{run_id}-b", "192.0.2.2", "198.18.0.2")
    wire = Host(f"bench-{run_id}-w", "", "")
    made = Rig(run_id, work, a, b)
    usable = sorted(os.sched_getaffinity(0))
    cpus = [usable[number % len(usable)] for number in range(2)]
    namespaces = [a, b, wire] if placement == "wired" else [a, b]
    try:
        for host in namespaces:
            subprocess.run(["ip", "netns", "add", host.namespace], check=True)
            host.ip("link", "set", "lo", "up")
        if placement == "wired":
            _wire(wire, made.hosts, work, cpus)
        else:
            _join(a, b)
        for host, cpu in zip(made.hosts, cpus, strict=True):
            host.ip("address", "add", f"{host.underlay}/24", "dev", UNDERLAY)
            host.ip("link", "set", UNDERLAY, "up")
            if placement != "placed":
                receive_on(host, UNDERLAY, cpu)
            if placement == "wired":
                host.cpu = cpu
        yield made
    finally:
        made.stop()
        for host in namespaces:
            subprocess.run(["ip", "netns", "delete", host.namespace], check=False)
