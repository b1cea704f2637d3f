# SPDX-License-Identifier: GPL-3.0-or-later
"""The primitives in BPF beside libsodium's, on one core: python -m bench.primitives.

Both sides loop inside: ours in a self-test program, libsodium (PyNaCl's) in a C function.
A round's figure is the least of a few short runs, most of which no other process cuts into.
Rounds alternate between the two, so that what disturbs one disturbs the other; the figures
are for the ratio, not to be quoted alone.

libsodium's secretbox derives the sub-key anew for every message, ours has it in the box:
0.1 to 0.2 µs of the difference. Its X25519 and BLAKE2b use AVX where the processor has it.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.results import Results, Settings
from bench.tunnels.brine import build
from brine.libbpf import Object
from tests.bpf.host import on_cpu

SECTION = "primitives"
ROUNDS = 15  #: for each round of the whole: they are short
ZERO = bytes(4)
RUNS, RUN_NS = 5, 3e6  # of a round of one primitive on one side
KEY, NONCE = bytes(range(32)), bytes(range(24))
PUBLIC = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")


def took(run: Callable[[int], None], repeat: int) -> float:
    """Nanoseconds each."""
    before = time.perf_counter_ns()
    run(repeat)
    return (time.perf_counter_ns() - before) / repeat


def least(run: Callable[[int], None]) -> float:
    """Nanoseconds each, of the run that was disturbed least."""
    repeat = 10
    for part in (0.1, 1):  # first guesses measure the call more than the work
        repeat = max(10, int(part * RUN_NS / took(run, repeat)))
    return min(took(run, repeat) for _ in range(RUNS))


@dataclass
class Primitive:
    """One row. `ours` and `theirs` run it so often."""

    name: str
    ours: Callable[[int], None]
    theirs: Callable[[int], None]
    rounds: list[tuple[float, float]] = field(default_factory=list)  # ns each, per call

    def round(self) -> None:
        self.rounds.append((least(self.ours), least(self.theirs)))

    def figures(self) -> dict[str, dict[str, float]]:
        """Median, least and most of nanoseconds and of the rounds' ratios."""
        columns = {
            "bpf_ns": [ours for ours, _theirs in self.rounds],
            "libsodium_ns": [theirs for _ours, theirs in self.rounds],
            "ratio": [ours / theirs for ours, theirs in self.rounds],
        }
        return {
            name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for name, values in columns.items()
        }


class Ours:
    """The loaded object."""

    def __init__(self, path: Path) -> None:
        self._object = Object(str(path))
        self._object.load()
        self._btf = self._object.btf
        self._operations = self._btf.enum("selftest_bench_operation")
        self._program = self._object.program("selftest_bench")
        self._fill("selftest_derive_work", "selftest_derive_area", own_private=KEY, secret=KEY)
        self._fill("selftest_derive_work", "selftest_derive_area", peer_public=PUBLIC)
        self._fill("selftest_work", "secretbox", subkey=KEY)

    def _fill(self, map_name: str, struct_name: str, **fields: bytes) -> None:
        area = self._object.map(map_name)
        kind: Any = self._btf.struct(struct_name)
        value = kind.from_buffer_copy(area.lookup(ZERO) or b"")
        for name, content in fields.items():
            ctypes.memmove(ctypes.addressof(getattr(value, name)), content, len(content))
        area.update(ZERO, bytes(value))

    def run(self, operation: str, repeat: int, length: int = 0) -> None:
        kind: Any = self._btf.struct("selftest_bench")
        request = kind(
            operation=self._operations[f"SELFTEST_BENCH_{operation}"], length=length, repeat=repeat
        )
        run = self._program.run(context=bytes(request))
        done = kind.from_buffer_copy(run.context)
        if run.value or done.done != repeat:
            raise RuntimeError(f"{operation} ran {done.done} times instead of {repeat}")


class Theirs:
    """libsodium, called from C."""

    def __init__(self, directory: Path) -> None:
        library = directory / "repeat.so"
        source = Path(__file__).parent / "repeat.c"
        subprocess.run(["clang-19", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        self._repeat = ctypes.CDLL(str(library)).repeat_call
        self._sodium = ctypes.CDLL(importlib.import_module("nacl._sodium").__file__)
        self._sodium.sodium_init()
        self._kept: list[Any] = []  # buffers that C code points to

    def buffer(self, content: bytes) -> int:
        """The address of a copy."""
        made = ctypes.create_string_buffer(content, len(content))
        self._kept.append(made)
        return ctypes.addressof(made)

    def run(self, function: str, repeat: int, *arguments: int) -> None:
        values = (ctypes.c_uint64 * 6)(*arguments)
        address = ctypes.cast(getattr(self._sodium, function), ctypes.c_void_p)
        if self._repeat(address, ctypes.c_uint64(repeat), values):
            raise RuntimeError(f"{function} failed")


def primitives(ours: Ours, theirs: Theirs) -> list[Primitive]:
    """All rows."""
    key, nonce, public = theirs.buffer(KEY), theirs.buffer(NONCE), theirs.buffer(PUBLIC)
    out, text = theirs.buffer(bytes(2048)), theirs.buffer(bytes(2048))

    def sodium(function: str, *arguments: int) -> Callable[[int], None]:
        return lambda repeat: theirs.run(function, repeat, *arguments)

    def secretbox(operation: str, length: int) -> Primitive:
        sealed = theirs.buffer(bytes(length + 16))
        theirs.run("crypto_secretbox_easy", 1, sealed, text, length, nonce, key)
        call = {
            "SEAL": sodium("crypto_secretbox_easy", out, text, length, nonce, key),
            "OPEN": sodium("crypto_secretbox_open_easy", out, sealed, length + 16, nonce, key),
        }[operation]
        return Primitive(
            f"secretbox {operation.lower()}, {length} bytes",
            lambda repeat: ours.run(operation, repeat, length),
            call,
        )

    return [
        Primitive(
            "X25519",
            lambda repeat: ours.run("X25519", repeat),
            sodium("crypto_scalarmult", out, key, public),
        ),
        Primitive(
            "BLAKE2b-384, keyed, 109 bytes",
            lambda repeat: ours.run("BLAKE2B", repeat),
            sodium("crypto_generichash_blake2b", out, 48, text, 109, key, 32),
        ),
        *(secretbox(operation, length) for length in (64, 1420) for operation in ("SEAL", "OPEN")),
    ]


def table(rows: list[Primitive], machine: str) -> str:
    """Markdown: medians (least–most), and the ratio of the least, which a busy machine moves
    least."""
    lines = [
        machine,
        "",
        "| primitive | BPF, µs | libsodium, µs | ratio | of the least |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        figures = row.figures()
        cells = [
            "{median:.2f} ({min:.2f}–{max:.2f})".format(
                **{name: value * scale for name, value in figure.items()}
            )
            for figure, scale in zip(figures.values(), (1e-3, 1e-3, 1), strict=True)
        ]
        least = figures["bpf_ns"]["min"] / figures["libsodium_ns"]["min"]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {least:.2f} |")
    return "\n".join(lines)


def measured(path: Path | None, cpu: int, rounds: int) -> list[Primitive]:
    """All rows after so many rounds on that CPU, of the object at `path`, or of a new one."""
    with tempfile.TemporaryDirectory() as name, on_cpu(cpu):
        theirs = Theirs(Path(name))
        rows = primitives(Ours(path or build(Path(name))), theirs)
        for _ in range(rounds):
            for row in rows:
                row.round()
    return rows


def run(settings: Settings, results: Results) -> None:
    """As a part of the whole: an entry is one primitive in one round."""
    results.begin(SECTION)
    print("bench: primitives", flush=True)
    for row in measured(None, last_cpu(), ROUNDS * settings.rounds):
        for number, (ours, theirs) in enumerate(row.rounds):
            results.add(
                SECTION,
                {"round": number, "name": row.name, "bpf_ns": ours, "libsodium_ns": theirs},
            )


def last_cpu() -> int:
    """The one that the first processes are least on."""
    return max(os.sched_getaffinity(0))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--cpu", type=int, default=last_cpu(), metavar="N")
    parser.add_argument("--object", type=Path, metavar="FILE", help="instead of building one")
    arguments = parser.parse_args()
    rows = measured(arguments.object, arguments.cpu, arguments.rounds)
    machine = (
        f"{platform.machine()}, Linux {platform.release()}, PyNaCl {version('pynacl')};"
        f" median (least–most) of {arguments.rounds} rounds"
    )
    print(table(rows, machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
