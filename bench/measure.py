# SPDX-License-Identifier: GPL-3.0-or-later
"""One round of figures for a tunnel that stands."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from bench.rig import Rig
from bench.tunnels.base import wait_for

SMALL_PACKET = 64 - 20 - 8  # an IPv4 packet of 64 bytes
PINGS = 2000
RTT_SECONDS = 60  #: at most
IPERF_PORT, FLOOD_PORT, ECHO_PORT = 5201, 5301, 5302


@dataclasses.dataclass
class Figures:
    """Gbit/s of TCP payload; packets/s delivered; round trip in µs; CPU s per GB of payload;
    resident bytes of both hosts' processes, and of the kernel's maps."""

    tcp1: float
    tcp2: float
    packets: float
    rtt: float
    cpu: float
    memory: int
    map_memory: int


def cpu_seconds() -> float:
    """Busy CPU seconds of the whole machine since boot (proc(5): not idle, not iowait)."""
    words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:8]
    busy = [int(word) for number, word in enumerate(words) if number not in (3, 4)]
    return sum(busy) / os.sysconf("SC_CLK_TCK")


def reachable(rig: Rig) -> None:
    """Wait until the far inner address answers."""

    def answers() -> bool:
        command = rig.a.command("ping", "-c1", "-W1", "-q", rig.b.inner)
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0

    wait_for(answers, "the far side does not answer", 30)


def tcp(rig: Rig, flows: int, seconds: float) -> tuple[float, float]:
    """Gbit/s, and CPU seconds per GB, of `flows` TCP flows."""
    server = rig.start(rig.b, "iperf3", "--server", "--one-off", "--port", str(IPERF_PORT))
    time.sleep(0.3)
    before = cpu_seconds()
    output = rig.a.run(
        *("iperf3", "--json", "--client", rig.b.inner, "--port", str(IPERF_PORT)),
        *("--time", f"{seconds:.0f}", "--parallel", str(flows)),
        timeout=seconds + 30,
    )
    spent = cpu_seconds() - before
    server.wait(timeout=10)
    received = json.loads(output)["end"]["sum_received"]
    return received["bits_per_second"] / 1e9, spent / (received["bytes"] / 1e9)


def packets(rig: Rig, traffic: str, seconds: float) -> float:
    """Small packets delivered per second."""
    receiver = subprocess.Popen(
        rig.b.command(traffic, "receive", str(FLOOD_PORT), f"{seconds + 1.5:g}"),
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.3)
    rig.a.run(
        *(traffic, "send", rig.b.inner, str(FLOOD_PORT)),
        *(str(SMALL_PACKET), f"{seconds:g}"),
        timeout=seconds + 30,
    )
    output, _ = receiver.communicate(timeout=seconds + 30)
    _, count, took = output.split()
    return int(count) / float(took) if float(took) else 0.0


def rtt(rig: Rig, traffic: str) -> float:
    """Median round-trip time in µs of a UDP packet."""
    echo = rig.start(rig.b, traffic, "echo", str(ECHO_PORT), str(RTT_SECONDS))
    time.sleep(0.3)
    output = rig.a.run(
        traffic, "ping", rig.b.inner, str(ECHO_PORT), str(PINGS), timeout=RTT_SECONDS
    )
    echo.terminate()
    echo.wait(timeout=10)
    times = [int(word) for word in output.split()]
    if len(times) < PINGS // 2:
        raise RuntimeError(f"{PINGS - len(times)} of {PINGS} packets were lost on an idle path")
    return statistics.median(times) / 1000


def measure(rig: Rig, traffic: str, map_memory: int, seconds: float) -> Figures:
    """All figures, one after the other, each over so many seconds."""
    reachable(rig)
    tcp1, cpu = tcp(rig, 1, seconds)
    tcp2, _ = tcp(rig, 2, seconds)
    delay = rtt(rig, traffic)
    rate = packets(rig, traffic, seconds)
    return Figures(tcp1, tcp2, rate, delay, cpu, rig.memory(), map_memory)
