# SPDX-License-Identifier: GPL-3.0-or-later
"""`seal` and `open` by themselves, as they are and without parts of the cryptography
(bench/bpf), at three sizes: BPF_PROG_TEST_RUN, the kernel's own time around the program.

One run for each packet, since `seal` changes its packet and `open` takes none twice; a figure is
the median of many runs, and the variants take turns within a round.
"""

from __future__ import annotations

import contextlib
import statistics
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.tunnels.brine import build
from brine.libbpf import Run
from tests.bpf import packets
from tests.bpf.host import TC_REDIRECT, XDP_DROP, XDP_REDIRECT, Host
from tests.bpf.loaded import Loaded
from tests.bpf.receiver import Receiver
from tests.bpf.sender import PEER, Sender

VARIANTS = {
    "whole": "brine.bpf.c",
    "no mac": "../bench/bpf/no_mac.bpf.c",
    "no crypto": "../bench/bpf/no_crypto.bpf.c",
}
SIZES = (0, 64, 1420)  #: bytes of text; 0: a keepalive
RUNS = 2000
_HEADERS = 28  # IPv4 and UDP
_DATA_HEADER = 32  # of DATA, with its tag

Measure = Callable[[int], int]  # size -> ns of one run


def seal_step(host: Host) -> Measure:
    """One packet sealed."""
    scene = Sender(host)
    next_header = host.loaded.enum("keepalive_request_field")["KEEPALIVE_REQUEST_NEXT_HEADER"]
    request = packets.ipv6("fe80::1", "::", struct.pack("<II", PEER, 0), next_header=next_header)

    def measure(size: int) -> int:
        inner = scene.inner(payload=bytes(size - _HEADERS)) if size else request
        return _expect(host.seal(packets.ethernet(inner)), TC_REDIRECT)

    return measure


def open_step(host: Host, sealed: bool) -> Measure:
    """One packet opened; not sealed for an `open` that does not decrypt."""
    scene = Receiver(host)
    counter = 0

    def measure(size: int) -> int:
        nonlocal counter
        text = scene.inner(payload=bytes(size - _HEADERS)) if size else b""
        message = scene.data(text, counter=counter)
        counter += 1
        frame = scene.frame(message if sealed else message[:_DATA_HEADER] + text)
        return _expect(host.open(frame), XDP_REDIRECT if size else XDP_DROP)

    return measure


def _host(path: Path, stack: contextlib.ExitStack) -> Host:
    loaded = stack.enter_context(contextlib.closing(Loaded(path)))
    return stack.enter_context(contextlib.closing(Host(loaded)))


def _expect(run: Run, value: int) -> int:
    if run.value != value:
        raise RuntimeError(f"the program returned {run.value} instead of {value}")
    return run.nanoseconds


class Steps:
    """All variants, loaded."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._measures: list[tuple[str, str, Measure]] = []
        for variant, source in VARIANTS.items():
            path = build(directory, source)
            self._measures.append((variant, "seal", seal_step(_host(path, stack))))
            if variant != "no mac":  # which leaves `open` as it is
                step = open_step(_host(path, stack), variant == "whole")
                self._measures.append((variant, "open", step))

    def round(self) -> Iterator[dict[str, object]]:
        """Entries: variant, program, size, ns."""
        for size in SIZES:
            for variant, program, measure in self._measures:
                found = statistics.median(measure(size) for _ in range(RUNS))
                yield {"variant": variant, "program": program, "size": size, "ns": found}
