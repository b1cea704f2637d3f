# SPDX-License-Identifier: GPL-3.0-or-later
"""brine beside the tunnels of Debian's own kernels, between two virtual machines: make bench-vm.

The machines are those of inventories/vm, up and with their mesh; BRINE_LAB names the lab. Where
their processors are emulated, so is every instruction: only ratios say something, and they are
not those of real processors. An entry is one tunnel in one round: Gbit/s of one TCP flow there
(`tcp`) and back (`back`), 64-byte packets/s, round trip in µs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.compare import build_traffic
from bench.measure import SMALL_PACKET
from bench.results import Results, Settings
from tests.labs import BRINE, ROOT, Lab
from tests.vm.machines import MACHINES, push

SECTION = "kernels"
NAMES = tuple(sorted(MACHINES))
DIRECTORY = "/root/brine-bench"
TRAFFIC = f"{DIRECTORY}/traffic"
PINGS = 500
PORT, ECHO_PORT = 5301, 5302
WIREGUARD_PORT = 51820


@dataclass
class Side:
    """A machine."""

    lab: Lab
    name: str
    number: str  #: last part of its addresses

    def run(self, *commands: str) -> str:
        return self.lab.run(self.name, "set -e; " + "; ".join(commands)).strip()

    def address(self, network: str) -> str:
        return f"{network}.{self.number}"


Sides = tuple[Side, Side]


@contextmanager
def without_brine(sides: Sides) -> Iterator[None]:
    """What others send shall not pass `open` on its way in."""
    for side in sides:
        side.run(f"{BRINE} dataplane detach")
    try:
        yield
    finally:
        for side in sides:
            side.run(f"{BRINE} dataplane apply")


@contextmanager
def plain(sides: Sides) -> Iterator[str]:
    """The underlay itself."""
    with without_brine(sides):
        yield "198.51.100"


@contextmanager
def brine(sides: Sides) -> Iterator[str]:
    yield "10.77.0"


@contextmanager
def wireguard(sides: Sides) -> Iterator[str]:
    """The kernel's, keys made on each machine and left there."""
    network = "10.78.0"
    key = "/root/wireguard"
    with without_brine(sides):
        try:
            public = [
                side.run(f"umask 077; wg genkey > {key}", f"wg pubkey < {key}") for side in sides
            ]
            for side, peer, theirs in zip(sides, sides[::-1], public[::-1], strict=True):
                endpoint = f"{peer.address('198.51.100')}:{WIREGUARD_PORT}"
                side.run(
                    "ip link add wg0 type wireguard",
                    f"wg set wg0 private-key {key} listen-port {WIREGUARD_PORT}"
                    f" peer {theirs} endpoint {endpoint} allowed-ips {network}.0/24",
                    f"ip address add {side.address(network)}/24 dev wg0",
                    "ip link set wg0 up",
                )
            yield network
        finally:
            for side in sides:  # it may not be there: what kept it from being made tells more
                side.run(f"ip link delete wg0 || true; rm -f {key}")


@contextmanager
def esp(sides: Sides) -> Iterator[str]:
    """IPsec in transport mode, AES-128-GCM; keys for this run, from the kernel's generator."""
    network = "10.79.0"
    with without_brine(sides):
        try:
            keys = [f"0x{os.urandom(20).hex()}" for _ in sides]
            for side, peer, mine, theirs in zip(sides, sides[::-1], keys, keys[::-1], strict=True):
                here, there = side.address(network), peer.address(network)
                aead = "mode transport aead 'rfc4106(gcm(aes))'"
                side.run(
                    f"ip address add {here}/24 dev eth0",
                    f"ip xfrm state add src {here} dst {there} proto esp spi 0x{side.number}"
                    f" {aead} {mine} 128",
                    f"ip xfrm state add src {there} dst {here} proto esp spi 0x{peer.number}"
                    f" {aead} {theirs} 128",
                    f"ip xfrm policy add src {here} dst {there} dir out"
                    f" tmpl src {here} dst {there} proto esp mode transport",
                    f"ip xfrm policy add src {there} dst {here} dir in"
                    f" tmpl src {there} dst {here} proto esp mode transport",
                )
            yield network
        finally:
            for side in sides:  # the address may not be there: why not tells more than its absence
                side.run(
                    "ip xfrm policy flush", "ip xfrm state flush",
                    f"ip address delete {side.address(network)}/24 dev eth0 || true",
                )  # fmt: skip


TUNNELS: dict[str, Callable[[Sides], AbstractContextManager[str]]] = {
    "plain": plain,
    "brine": brine,
    "WireGuard of the kernel": wireguard,
    "ESP, AES-128-GCM": esp,
}


def tcp(sender: Side, receiver: Side, network: str, seconds: float) -> float:
    """Gbit/s of one flow."""
    receiver.run("iperf3 --server --one-off --daemon")
    output = sender.run(
        f"for n in $(seq 50); do iperf3 --json --client {receiver.address(network)}"
        f" --time {seconds:.0f} > {DIRECTORY}/iperf && break; sleep 0.2; done",
        f"cat {DIRECTORY}/iperf",
    )
    return float(json.loads(output)["end"]["sum_received"]["bits_per_second"]) / 1e9


def packets(sender: Side, receiver: Side, network: str, seconds: float) -> float:
    """Small packets delivered per second."""
    took = f"{seconds + 4:g}"
    receiver.run(f"nohup {TRAFFIC} receive {PORT} {took} > {DIRECTORY}/received 2>&1 &")
    sender.run(
        "sleep 1",
        f"{TRAFFIC} send {receiver.address(network)} {PORT} {SMALL_PACKET} {seconds:g}",
    )
    _, count, lasted = receiver.run(
        f"while pidof traffic > /dev/null; do sleep 0.2; done; cat {DIRECTORY}/received"
    ).split()
    return int(count) / float(lasted) if float(lasted) else 0.0


def round_trip(sender: Side, receiver: Side, network: str) -> float:
    """Median, µs."""
    receiver.run(f"nohup {TRAFFIC} echo {ECHO_PORT} 60 > /dev/null 2>&1 &")
    output = sender.run(
        "sleep 1", f"{TRAFFIC} ping {receiver.address(network)} {ECHO_PORT} {PINGS}"
    )
    receiver.run("pkill traffic || true")  # it ends by itself after a minute
    return statistics.median(int(word) for word in output.split()) / 1000


def run(settings: Settings, results: Results) -> None:
    """All rounds."""
    name = os.environ.get("BRINE_LAB")
    if not name:
        raise RuntimeError("BRINE_LAB names no lab of virtual machines. Next: make bench-vm")
    results.begin(SECTION)
    lab = Lab(name, ROOT / "inventories/vm")
    first, second = (Side(lab, machine, f"1{machine.removeprefix('vm')}") for machine in NAMES)
    with tempfile.TemporaryDirectory(prefix="brine-bench-") as directory:
        traffic = Path(build_traffic(Path(directory)))
        for side in (first, second):
            push(lab, side.name, DIRECTORY, {"traffic": traffic})
    for number in range(settings.rounds):
        for what, tunnel in TUNNELS.items():
            said = f"round {number + 1}/{settings.rounds}: {what}"
            print(f"bench: {said}", flush=True)
            try:
                with tunnel((first, second)) as network:
                    first.run(f"ping -c1 -W10 -q {second.address(network)}")
                    entry = {
                        "tcp": tcp(first, second, network, settings.seconds),
                        "back": tcp(second, first, network, settings.seconds),
                        "packets": packets(first, second, network, settings.seconds),
                        "rtt": round_trip(first, second, network),
                    }
            except (AssertionError, subprocess.SubprocessError, ValueError) as error:
                results.fail(SECTION, said, error)
                continue
            results.add(SECTION, {"round": number, "name": what, **entry})
