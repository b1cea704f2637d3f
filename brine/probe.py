# SPDX-License-Identifier: GPL-3.0-or-later
"""`brine probe`: numbered packets through brine0, and what became of each.

One host receives, others send to it; every packet carries its number, and when a
sender is done it says how many there were. So the receiver can tell what was lost,
what came twice and what came late, to the packet: the way to prove that a rotation
or an upgrade loses nothing.

    packet   8 bytes "brineprb" | kind u8 | 7 zeros | run 16 | number u64 | total u64
    kind     1: one of the numbered packets; 2: the end, with their total; 3: the answer to
             the end: it was received
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brine.config import DEVICE
from brine.errors import BrineError
from brine.roster import Address

PORT = 4748  #: UDP, inside the mesh
_MAGIC = b"brineprb"
_FORMAT = struct.Struct("!8sB7x16sQQ")
_NUMBERED, _END, _RECEIVED = 1, 2, 3
_BUFFER = 8 << 20
_SO_RCVBUFFORCE = 33
# linux/in.h, linux/in6.h; Python names neither.
_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
_TRIES = 50  #: of a packet that the device does not take
_END_ATTEMPTS = 50  # of 0.1 s
_TOTAL_MAX = 1 << 28  # numbers that a receiver keeps count of: a bit each


@dataclass
class Run:
    """What arrived of one sender's packets."""

    source: str
    seen: bytearray = field(default_factory=bytearray)  # a bit a number
    unique: int = 0
    duplicated: int = 0
    reordered: int = 0  #: arrived after one of a higher number
    highest: int = -1
    total: int | None = None  #: how many were sent; None: the sender has not said
    last: float = 0.0
    gap: float = 0.0  #: s, the longest time without a packet

    def note(self, number: int, now: float) -> None:
        """A numbered packet arrived."""
        place, bit = divmod(number, 8)
        if place >= len(self.seen):
            self.seen.extend(bytes(place + 1024 - len(self.seen)))
        if self.seen[place] >> bit & 1:
            self.duplicated += 1
            return
        self.seen[place] |= 1 << bit
        self.unique += 1
        if number < self.highest:
            self.reordered += 1
        self.highest = max(self.highest, number)
        if self.last:
            self.gap = max(self.gap, now - self.last)
        self.last = now

    def report(self) -> dict[str, Any]:
        total = self.highest + 1 if self.total is None else self.total
        return {
            "source": self.source,
            "complete": self.total is not None,
            "sent": total,
            "received": self.unique,
            "lost": total - self.unique,
            "duplicated": self.duplicated,
            "reordered": self.reordered,
            "longest_gap_ms": round(self.gap * 1000, 3),
        }


def receive(
    addresses: Sequence[Address], seconds: float, runs: int | None = None, port: int = PORT
) -> dict[str, Any]:
    """Receive at this host's `addresses` until so many runs are complete, or time is up:
    `{runs: [{source, complete, sent, received, lost, duplicated, reordered, longest_gap_ms}]}`.

    :raises BrineError: if an address or the port cannot be had.
    """
    found: dict[bytes, Run] = {}  # by the run's own number: its source may change
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_socket(address, port)) for address in addresses]
        while (left := end - time.monotonic()) > 0:
            if runs is not None and sum(one.total is not None for one in found.values()) >= runs:
                break
            for ready in select.select(sockets, [], [], min(left, 0.5))[0]:
                _drain(ready, found)
    return {"runs": sorted((one.report() for one in found.values()), key=lambda r: r["source"])}


def _drain(ready: socket.socket, found: dict[bytes, Run]) -> None:
    for _packet in range(1024):
        try:
            data, source = ready.recvfrom(2048)
        except OSError:
            return
        if len(data) != _FORMAT.size:
            continue
        magic, kind, identifier, number, total = _FORMAT.unpack(data)
        if magic != _MAGIC or number >= _TOTAL_MAX or total > _TOTAL_MAX:
            continue
        run = found.setdefault(identifier, Run(source=str(source[0])))
        if kind == _NUMBERED:
            run.note(number, time.monotonic())
        elif kind == _END:
            run.total = total
            with contextlib.suppress(OSError):
                ready.sendto(_pack(_RECEIVED, identifier, 0, total), source)


def send(
    addresses: Sequence[Address],
    seconds: float,
    interval_ms: float = 1.0,
    port: int = PORT,
    interrupted: Sequence[int] = (),
) -> dict[str, Any]:
    """Send each of `addresses` a numbered packet every interval:
    `{runs: [{destination, sent, failed, heard}]}`. `failed`: the device did not take it, so the
    receiver will count it as lost. `heard`: the receiver knows how many there were. What makes
    `interrupted` true ends it early, and as well.

    :raises BrineError: if brine0 cannot be used.
    """
    count = max(1, round(seconds * 1000 / interval_ms))
    with contextlib.ExitStack() as stack:
        senders = [_Sender(stack.enter_context(_socket(to)), to, port) for to in addresses]
        begin = time.monotonic()
        number = 0
        while number < count and not interrupted:
            wait = begin + number * interval_ms / 1000 - time.monotonic()
            if wait > 0:  # else catch up: the number of packets is what was asked for
                time.sleep(wait)
            for sender in senders:
                sender.send(_NUMBERED, number, 0)
            number += 1
        count = number
        for _attempt in range(_END_ATTEMPTS):
            silent = [sender for sender in senders if not sender.heard]
            if not silent:
                break
            for sender in silent:
                sender.send(_END, 0, count)
            select.select([sender.socket for sender in silent], [], [], 0.1)
            for sender in silent:
                sender.listen()
        return {"runs": [sender.report(count) for sender in senders]}


@contextlib.contextmanager
def until_interrupted() -> Iterator[list[int]]:
    """A list that SIGINT fills, so that it comes between two packets."""
    arrived: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _frame: arrived.append(number))
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGINT, former)


class _Sender:
    def __init__(self, opened: socket.socket, to: Address, port: int) -> None:
        self.socket = opened
        # Else the kernel keeps to itself that it dropped a packet before brine0.
        level, option = _RECVERR[to.version]
        opened.setsockopt(level, option, 1)
        self.destination = (str(to), port)
        self.identifier = os.urandom(16)
        self.failed = 0
        self.heard = False

    def send(self, kind: int, number: int, total: int) -> None:
        packet = _pack(kind, self.identifier, number, total)
        for _attempt in range(_TRIES):
            try:
                self.socket.sendto(packet, self.destination)
            except OSError as error:
                # The queue in front of brine0 is full: a CPU of this host is late. Anything
                # else may be of an earlier packet, and is gone now that it was told.
                if error.errno == errno.ENOBUFS:
                    time.sleep(0.001)
            else:
                return
        self.failed += kind == _NUMBERED

    def listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = self.socket.recv(2048)
                if len(data) == _FORMAT.size and data[:9] == _MAGIC + bytes((_RECEIVED,)):
                    self.heard = self.heard or data[16:32] == self.identifier

    def report(self, count: int) -> dict[str, Any]:
        return {
            "destination": self.destination[0],
            "sent": count,
            "failed": self.failed,
            "heard": self.heard,
        }


def render(answer: Mapping[str, Any]) -> str:
    """The answer of either side as text."""
    lines = []
    for run in answer["runs"]:
        if "destination" in run:
            heard = "" if run["heard"] else ", and the receiver does not answer"
            failed = f", {run['failed']} not taken by {DEVICE}" if run["failed"] else ""
            lines.append(f"to {run['destination']}: {run['sent']} sent{failed}{heard}")
        else:
            unfinished = "" if run["complete"] else ", unfinished"
            lines.append(
                f"from {run['source']}: {run['received']} of {run['sent']} received,"
                f" {run['lost']} lost, {run['duplicated']} duplicated,"
                f" {run['reordered']} reordered,"
                f" longest gap {run['longest_gap_ms']:.1f} ms{unfinished}"
            )
    return "\n".join(lines or ["nothing was received"]) + "\n"


def _pack(kind: int, identifier: bytes, number: int, total: int) -> bytes:
    return _FORMAT.pack(_MAGIC, kind, identifier, number, total)


def _socket(address: Address, port: int | None = None) -> socket.socket:
    """A socket that uses brine0 only; bound if there is a port."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if port is not None:
            opened.bind((str(address), port))
    except OSError as error:
        opened.close()
        where = f"{address} port {port}" if port is not None else DEVICE
        raise BrineError(
            f"{where} cannot be used: {error.strerror}",
            "see with `ss -ulnp` who has the port, and that brine0 is up",
        ) from None
    return opened
