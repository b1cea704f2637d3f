# SPDX-License-Identifier: GPL-3.0-or-later
"""What a flood of INITIATIONs takes from the mesh's traffic: python -m bench flood.

The mesh has no secret, so that strangers can make mac1: the worst case. Every INITIATION has the
right mac1 and a source of its own. TCP flows through brine the while; conditions take turns:

    quiet       no flood
    elsewhere   the same packets to a port that nobody listens on: what making and receiving them
                costs this machine, brine or not
    flood       to brine

Run as a program inside the attacking namespace, it sends: python -m bench.flood FILE RATE. FILE
holds frames, each behind its length (2 bytes), which leave over and over until its input ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import reachable, tcp
from bench.results import Results, Settings
from bench.rig import UNDERLAY, Rig, rig
from bench.scaling import process_seconds
from bench.tunnels.base import PORT
from bench.tunnels.brine import SOURCE, Brine
from brine import config as configuration
from brine import keys, messages
from brine.exchange import NO_PSK
from brine.layout import Layout
from brine.maps import Maps

SECTION = "flood"
RATES = (1000, 10000)  #: INITIATIONs a second
SOURCES = 4096
NOISE = 1344  #: bytes of an INITIATION that are Noise's
CLOSED = 9  #: the UDP port
CONDITIONS = ("quiet", "elsewhere", "flood")


def frames(layout: Layout, made: Rig, target: bytes, port: int) -> Iterator[bytes]:
    """INITIATIONs for host b, which has that identity, each from an address of its own."""
    key = keys.mac1_key(NO_PSK, target)
    ethernet = mac(made.b.namespace) + mac(made.a.namespace) + b"\x08\x00"
    for number in range(SOURCES):
        message = messages.initiation(layout, number + 1, os.urandom(NOISE), key)
        datagram = struct.pack("!HHHH", 50000, port, 8 + len(message), 0) + message
        size = 20 + len(datagram)
        addresses = struct.pack("!I", (100 << 24 | 64 << 16) + number)
        addresses += socket.inet_aton(made.b.underlay)
        header = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, 17, 0) + addresses
        total = sum(struct.unpack("!10H", header))
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        yield ethernet + header[:10] + struct.pack("!H", checksum) + header[12:] + datagram


def mac(namespace: str) -> bytes:
    """Of the underlay device there."""
    command = ["ip", "-n", namespace, "-json", "link", "show", UNDERLAY]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return bytes.fromhex(json.loads(done.stdout)[0]["address"].replace(":", ""))


@contextlib.contextmanager
def flooding(made: Rig, file: Path, rate: int) -> Iterator[Counted]:
    """Frames of `file` leave host a meanwhile; how many, once it is over."""
    command = ("env", f"PYTHONPATH={SOURCE}", sys.executable, "-m", "bench.flood")
    process = subprocess.Popen(
        made.a.command(*command, str(file), str(rate)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "begins\n":
        raise RuntimeError("the flood did not begin")
    counted, begin = Counted(), time.monotonic()
    try:
        yield counted
    finally:
        output, _ = process.communicate(timeout=30)  # closes its input: the end
        counted.rate = int(output) / (time.monotonic() - begin)


@dataclasses.dataclass
class Counted:
    """What left."""

    rate: float = 0.0  #: frames a second


def send(file: Path, rate: int) -> int:
    """Until the input ends; how many left."""
    raw, found, at = file.read_bytes(), [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        found.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((UNDERLAY, 0))
        print("begins", flush=True)
        begin = time.monotonic()
        while not select.select([sys.stdin], [], [], 0.005)[0]:
            due = int((time.monotonic() - begin) * rate)
            while sent < due:
                with contextlib.suppress(OSError):  # a full queue
                    out.send(found[sent % len(found)])
                sent += 1
    return sent


def run(settings: Settings, results: Results) -> None:
    """All rounds."""
    results.begin(SECTION)
    with tempfile.TemporaryDirectory(prefix="brine-bench-") as name:
        for number in range(settings.rounds):
            print(f"bench: flood: round {number + 1}/{settings.rounds}", flush=True)
            with rig(f"{os.getpid():x}", Path(name, str(number))) as made:
                tunnel = Brine(made, Path(name))
                try:
                    tunnel.start()
                    reachable(made)
                    for entry in _round(made, tunnel, settings.seconds):
                        results.add(SECTION, {"round": number, **entry})
                finally:
                    tunnel.stop()


def _round(made: Rig, tunnel: Brine, seconds: float) -> Iterator[dict[str, object]]:
    target = tunnel.sides[1]
    with Maps.of(configuration.load(target.paths)) as maps:
        layout = maps.layout
    files = {"elsewhere": CLOSED, "flood": PORT}
    for condition, port in files.items():
        with (made.work / condition).open("wb") as out:
            for frame in frames(layout, made, target.public, port):
                out.write(len(frame).to_bytes(2, "big") + frame)
    for rate in RATES:
        for condition in CONDITIONS:
            counted = Counted()
            with contextlib.ExitStack() as stack:
                if condition != "quiet":
                    file = made.work / condition
                    counted = stack.enter_context(flooding(made, file, rate))
                busy = process_seconds(target.pid)
                throughput, _ = tcp(made, 1, seconds)
                busy = process_seconds(target.pid) - busy
            yield {
                "rate": rate,
                "condition": condition,
                "sent": counted.rate,
                "tcp": throughput,
                "daemon": busy / seconds,
            }


if __name__ == "__main__":
    print(send(Path(sys.argv[1]), int(sys.argv[2])))
