# SPDX-License-Identifier: GPL-3.0-or-later
"""The C targets: how they are built, and the inputs they begin with."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests import vectors

HERE = Path(__file__).resolve().parent
BPF = HERE.parents[1] / "bpf"
TARGETS = ("open", "seal", "replay", "secretbox")
FLAGS = (
    *("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"),
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-sanitize=alignment",  # packets are read where they lie: the machine's business
)


def build(target: str, directory: Path, bpf: Path = BPF) -> Path:
    """The fuzzer of `target`, from the headers in `bpf`.

    :raises RuntimeError: with what the compiler says.
    """
    program = directory / f"{target}_target"
    source = HERE / f"{target}_target.c"
    command: list[str | Path] = [
        "clang-19",
        *FLAGS,
        f"-I{HERE / 'include'}",
        f"-I{bpf}",
        source,
        "-lsodium",
    ]
    done = subprocess.run(
        [*command, "-o", program], capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
    return program


def seeds(target: str) -> list[bytes]:
    return {"open": _open, "seal": _seal, "replay": _replay, "secretbox": _secretbox}[target]()


def _sealed(
    *,
    peer: int = 1,
    counter: int = 0,
    family: int = 4,
    source: int = 2,
    text: bytes = b"text",
    how: int = 0,
    outer_class: int = 0,
    lane: int = 0,
    flips: tuple[tuple[int, int], ...] = (),
) -> bytes:
    """A step of sealed_step(): a whole packet of `peer` with an inner source 10.77.0.`source`."""
    step = struct.pack("!BB", 1, how | (peer - 1))
    if how & 4:
        step += b"\x10"
    step += struct.pack("!BB", outer_class, lane)
    step += counter.to_bytes(7, "big") if how & 32 else counter.to_bytes(2, "big")
    if how & 64:
        step += b"\x40"
    step += struct.pack("!BBB", 2 if family == 4 else 0, source, len(text)) + text
    return step + bytes((len(flips),)) + b"".join(struct.pack("!HB", *flip) for flip in flips)


def _ratchet(generation: int, how: int = 0, counter: int = 0) -> bytes:
    """A step of ratchet_step()."""
    return struct.pack("!BBBBHB", 2, how, generation - 1, 0, counter, 60)


def _raw(frame: bytes, linear: int = 255) -> bytes:
    """A step of raw_step()."""
    return struct.pack("!BHB", 0, len(frame), linear) + frame


def _frames() -> list[bytes]:
    """The published packets, as an underlay would bring them."""
    packets = vectors.load("brine/packet.json")
    messages = [bytes.fromhex(one["packet"]) for kind in packets.values() for one in kind]
    for one in vectors.load("brine/exchange.json")[:1]:
        messages += [bytes.fromhex(one["initiation"]), bytes.fromhex(one["response"])]
    frames = []
    for message in messages:
        udp = struct.pack("!HHHH", 50000, 4747, 8 + len(message), 0) + message
        ip = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
            bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1)),
        )  # fmt: skip
        frames.append(b"\2" * 12 + b"\x08\x00" + ip + udp)
    return frames


def _open() -> list[bytes]:
    own = b"\2" * 12 + b"\x08\x00" + bytes.fromhex("4500001400000000401100000a4d0002c0000201")
    fragment = bytearray(_frames()[0])
    fragment[20] = 0x20
    return [
        b"".join(_sealed(peer=peer, source=1 + peer, family=family, counter=number)
                 for number, (peer, family) in enumerate(((1, 4), (1, 6), (2, 4), (2, 6)))),
        b"".join(_sealed(counter=counter) for counter in (5, 5, 3000, 5, 984, 983, 3000)),
        b"".join(_sealed(how=how) for how in (2, 4, 8, 32, 64)),
        _sealed() + b"".join(_ratchet(number) + _sealed(counter=number) for number in range(1, 5)),
        _sealed()
        + b"".join(_ratchet(number, how) for number in (1, 2) for how in (8, 4, 6, 32, 0)),
        _sealed() + _ratchet(1) + _ratchet(1) + _ratchet(1, 2) + _ratchet(1, 16) + _ratchet(3),
        _sealed(lane=15) + _sealed(how=16, lane=16) + _sealed(how=32, counter=1 << 40),
        _sealed(source=3) + _sealed(source=1) + _sealed(source=0) + _sealed(peer=2, source=5),
        _sealed(outer_class=3) + _sealed(counter=1, outer_class=0x2E),
        *(_sealed(flips=((place, 1),)) for place in range(14, 14 + 28 + 32 + 24)),
        *(_raw(frame) for frame in _frames()),
        _raw(own) + _raw(bytes(fragment)) + _raw(_frames()[0], linear=2) + _raw(bytes(14)),
    ]  # fmt: skip


def _seal() -> list[bytes]:
    """Steps of seal_target.c: how, length, cpu, time, bytes."""

    def step(packet: bytes, how: int = 0, cpu: int = 0) -> bytes:
        return struct.pack("!BHBB", how, len(packet), cpu, 1) + packet

    def ip4(last: int, payload: bytes, network: str = "0a4d00") -> bytes:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, 17, 0)
        return head + bytes.fromhex("0a4d0001" + network) + bytes((last,)) + payload

    def ip6(last: int, payload: bytes, protocol: int = 17) -> bytes:
        prefix = bytes.fromhex("fd6272696e65") + bytes(9)
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return head + prefix + b"\1" + (prefix + bytes((last,)) if last else bytes(16)) + payload

    ports = struct.pack("!HHHH", 9, 9, 12, 0) + b"text"
    return [
        step(ip4(2, ports)) + step(ip4(3, ports)) + step(ip6(2, ports), 1) + step(ip6(3, ports), 1),
        step(ip4(7, ports, "c63364")) + step(ip4(9, ports)) + step(ip4(1, ports)),
        b"".join(step(ip4(2, ports), how, cpu) for how, cpu in ((16, 0), (32, 1), (1, 2), (0, 17))),
        *(step(ip6(0, struct.pack("<I", number)[:size] + b"\0" * (size - 4), 253), 1)
          for number in (1, 2, 77) for size in (4, 8)),
        struct.pack("!BHBB", 4, 9236, 0, 1) + ip4(2, b"x")[:2] + struct.pack("!H", 9216),
        step(b"\x45") + step(ip6(2, b"")[:36], 1),
    ]  # fmt: skip


def _replay() -> list[bytes]:
    """Steps of replay_target.c. The order of WireGuard's own test of its window (selftest/
    counter.c), by what it is about: edges of the window, then far jumps."""

    def ahead(step: int) -> bytes:
        return b"\1" + step.to_bytes(2, "big")

    def behind(step: int) -> bytes:
        return b"\2" + step.to_bytes(2, "big")

    def at(counter: int) -> bytes:
        return b"\0" + counter.to_bytes(8, "big")

    edges = b"".join(behind(step) for step in (0, 1, 31, 32, 2014, 2015, 2016, 2017, 2048))
    return [
        ahead(0) + ahead(1) + ahead(1) + behind(1) + edges,
        ahead(9) + ahead(2048) + edges + ahead(2016) + edges + ahead(32) + edges,
        at((1 << 40) - 1) + edges + at(0),
        b"".join(ahead(1) for _ in range(70)) + b"".join(behind(step) for step in range(70)),
        b"".join(bytes((lane << 2 | 1,)) + b"\0\1" for lane in range(16)) + b"\3\0\0",
    ]


def _secretbox() -> list[bytes]:
    key_and_nonce = bytes(range(56))
    text = bytes(range(256)) * 2
    return [
        key_and_nonce + struct.pack("!HBH", place, 1, length) + text[:length]
        for place, length in ((0, 0), (3, 1), (16, 15), (20, 16), (40, 63), (99, 64), (700, 1420))
    ] + [key_and_nonce + struct.pack("!HBH", 5000, 128, 9216) + text]
