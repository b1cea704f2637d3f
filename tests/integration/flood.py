# SPDX-License-Identifier: GPL-3.0-or-later
"""A flood, as a process of its own: python -m tests.integration.flood FILE SECONDS A_SECOND.

FILE holds frames, each behind its length (2 bytes). They leave through eth0 of the namespace
that the process is in, over and over, until time is up; how many is printed.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.namespaces import Namespace

_BATCH_SECONDS = 0.01


@dataclass
class Flood:
    """One that runs."""

    process: subprocess.Popen[str]
    sent: int = 0  #: once it is over


@contextlib.contextmanager
def flooding(
    namespace: Namespace, frames: Sequence[bytes], file: Path, seconds: float, a_second: int
) -> Iterator[Flood]:
    """Meanwhile these frames leave eth0 of `namespace`, for so long, or until the end."""
    file.write_bytes(b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames))
    command = [sys.executable, "-m", "tests.integration.flood", str(file)]
    with namespace.entered():
        process = subprocess.Popen(
            [*command, str(seconds), str(a_second)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    flood = Flood(process)
    try:
        yield flood
    finally:
        output, _ = process.communicate(timeout=seconds + 30)  # closes its input: the end
    flood.sent = int(output)


def _send(path: Path, seconds: float, a_second: int) -> int:
    raw, frames, at = path.read_bytes(), [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        frames.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    print("begins", flush=True)
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind(("eth0", 0))
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < seconds and not _ended():
            due = int(passed * a_second)
            while sent < due:
                with contextlib.suppress(OSError):  # a full queue
                    out.send(frames[sent % len(frames)])
                sent += 1
            time.sleep(_BATCH_SECONDS)
    return sent


def _ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


if __name__ == "__main__":
    print(_send(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
