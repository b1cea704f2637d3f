# SPDX-License-Identifier: GPL-3.0-or-later
"""What messages of the exchange cost in XDP that do not reach the daemon: python -m bench.forged.

Each is given to `open` again and again (BPF_PROG_TEST_RUN); a figure is the mean of the round
that was disturbed least. The kernel's part before XDP (driver, buffers) is not in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import Results, Settings
from bench.tunnels.brine import build
from brine import keys, messages
from brine.layout import Layout
from brine.libbpf import Object, Program
from brine.maps import boot_ns
from tests.bpf.host import on_cpu

SECTION = "forged"
ROUNDS = 50  #: of which the least counts
OURS, THEIRS, PORTS = bytes((192, 0, 2, 1)), bytes((203, 0, 113, 7)), (50000, 4747)
MAPPED = bytes(10) + b"\xff\xff"
AWAITED = 7
HOUR = 3600 * 10**9
DROPPED = 1  # XDP_DROP


class Target:
    """`open`, on a host with so many identities."""

    def __init__(self, path: Path) -> None:
        self._object = Object(str(path))
        self._object.leave_out("selftest")
        self._object.load()
        self.layout = Layout(self._object.btf)
        self.program: Program = self._object.program("open")
        self.keys = [os.urandom(32) for _ in range(self.layout.enum("map_size")["MAC1_KEYS"])]
        self.secret = os.urandom(32)
        config: Any = self.layout.config()
        config.inside_ifindex = config.underlay_ifindex = 1
        config.source4.bytes[:] = MAPPED + OURS
        config.port = int.from_bytes(struct.pack("!H", PORTS[1]), "little")
        self._write("config", 0, bytes(config))
        self._write("awaited", AWAITED, bytes(16))
        self._write("cookie_secrets", 0, self.secret + struct.pack("<Q", boot_ns() + HOUR))
        self.accept(1)

    def _write(self, name: str, key: int | bytes, value: bytes) -> None:
        raw = key if isinstance(key, bytes) else struct.pack("<I", key)
        self._object.map(name).update(raw, value)

    def accept(self, count: int) -> None:
        """The first `count` keys."""
        for slot, key in enumerate(self.keys):
            self._write("mac1_keys", slot, key + struct.pack("<II", slot < count, 0))

    def empty(self, *, host: bool, source: bool) -> None:
        """Whether the host's and the source's buckets are spent, for an hour."""
        until = boot_ns() + HOUR
        for name, number in self.layout.enum("budget").items():
            if name not in ("BUDGETS", "BUDGET_DERIVATIONS"):
                self._write("budgets", number, struct.pack("<Q", until * host))
        self._write("sources", MAPPED + THEIRS, struct.pack("<QQ", until * source, until * source))

    def initiation(self, key: bytes, cookie: bytes | None = None) -> bytes:
        return messages.initiation(self.layout, 1, os.urandom(1344), key, cookie)

    def response(self, key: bytes, index: int) -> bytes:
        return messages.response(self.layout, 1, index, os.urandom(1188), key)

    def cookie(self, index: int) -> bytes:
        return messages.seal_cookie(self.layout, index, os.urandom(32), os.urandom(16))

    def right_cookie(self) -> bytes:
        return keys.cookie(self.secret, MAPPED + THEIRS, PORTS[0])

    def frame(self, message: bytes) -> bytes:
        """An Ethernet frame; nobody looks at the checksums."""
        udp = struct.pack("!HHHH", *PORTS, 8 + len(message), 0) + message
        size = 20 + len(udp)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, 17, 0) + THEIRS + OURS
        return bytes(12) + b"\x08\x00" + ip + udp

    def cost(self, message: bytes, rounds: int) -> int:
        """ns for each such message, which must be dropped."""
        frame, repeat = self.frame(message), 4000
        runs = [self.program.run(frame, repeat=repeat) for _ in range(rounds)]
        if {run.value for run in runs} != {DROPPED}:
            raise RuntimeError("the message was not dropped")
        return min(run.nanoseconds for run in runs)


@dataclass
class Row:
    """A message, and what the host is like when it comes."""

    name: str
    prepare: Callable[[Target], None]
    message: Callable[[Target], bytes]


def _with(count: int = 1, *, host: bool = False, source: bool = False) -> Callable[[Target], None]:
    def prepare(target: Target) -> None:
        target.accept(count)
        target.empty(host=host, source=source)

    return prepare


def _forged(target: Target) -> bytes:
    return target.initiation(bytes(32))


ROWS = (
    Row("INITIATION, mac1 wrong, one identity", _with(), _forged),
    Row("the same, two identities", _with(2), _forged),
    Row("the same, four", _with(4), _forged),
    Row(
        "INITIATION, mac1 right, source over its rate",
        _with(source=True),
        lambda target: target.initiation(target.keys[0]),
    ),
    Row(
        "INITIATION, mac1 right, host over its rate",
        _with(host=True),
        lambda target: target.initiation(target.keys[0]),
    ),
    Row(
        "the same, mac2 wrong",
        _with(host=True),
        lambda target: target.initiation(target.keys[0], bytes(16)),
    ),
    Row(
        "the same, mac2 right, but over that rate",
        _with(host=True, source=True),
        lambda target: target.initiation(target.keys[0], target.right_cookie()),
    ),
    Row("RESPONSE to nothing", _with(), lambda target: target.response(bytes(32), AWAITED + 1)),
    Row("RESPONSE, mac1 wrong", _with(), lambda target: target.response(bytes(32), AWAITED)),
    Row("COOKIE to nothing", _with(), lambda target: target.cookie(AWAITED + 1)),
)


def measure(target: Target, rounds: int) -> dict[str, int]:
    """ns by row."""
    found = {}
    for row in ROWS:
        row.prepare(target)
        found[row.name] = target.cost(row.message(target), rounds)
    return found


def on_one_cpu(path: Path | None, cpu: int, rounds: int) -> dict[str, int]:
    """The same on that CPU, of the object at `path`, or of a new one."""
    with tempfile.TemporaryDirectory() as name, on_cpu(cpu):
        return measure(Target(path or build(Path(name))), rounds)


def run(settings: Settings, results: Results) -> None:
    """As a part of the whole: an entry is one row in one round."""
    results.begin(SECTION)
    print("bench: forged", flush=True)
    for number in range(settings.rounds):
        found = on_one_cpu(None, max(os.sched_getaffinity(0)), ROUNDS)
        for name, cost in found.items():
            results.add(SECTION, {"round": number, "name": name, "ns": cost})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--object", type=Path, metavar="FILE", help="instead of building one")
    arguments = parser.parse_args()
    found = on_one_cpu(arguments.object, arguments.cpu, arguments.rounds)
    print(f"{platform.machine()}, Linux {platform.release()}; least of {arguments.rounds} rounds\n")
    print("| dropped | ns | a second and CPU |\n|---|---|---|")
    for row, cost in found.items():
        print(f"| {row} | {cost} | {10**9 // max(cost, 1):,} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
