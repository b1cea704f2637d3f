# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the CPUs are while something runs, by perf's software clock: it needs no counters of the
processor, so that it works in a virtual machine. Symbols are put into classes by their names.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

#: The first that fits. BPF functions are symbols of their own: bpf_prog_TAG_NAME.
CLASSES = (
    ("XSalsa20", r"bpf_prog_\w+_secretbox_xor_callback"),
    ("Poly1305", r"bpf_prog_\w+_secretbox_(group|block)_callback"),
    ("secretbox, start and end", r"bpf_prog_\w+_secretbox_(seal|verify|decrypt)"),
    ("seal and open without secretbox", r"bpf_prog_"),
    ("map look-ups", r"trie_lookup_elem|(htab|array)\w*_lookup|lookup_nulls|longest_prefix_match"),
    (
        "BPF helpers",
        r"bpf_loop|bpf_(skb|xdp)_(load|store)_bytes|bpf_skb_(change|adjust|set)|____bpf",
    ),
    (
        "copies",
        r"memcpy|memmove|skb_copy|copy_user|rep_movs|copy_(to|from)_iter|_copy_from|_copy_to",
    ),
    ("XDP and TC", r"xdp|tcf_|tcx|cls_bpf|sch_handle|skb_do_redirect|__bpf_"),
    ("idle", r"native_safe_halt|default_idle|cpuidle|mwait|acpi_idle|poll_idle"),
)
USER, STACK = "user space", "the rest of the kernel: stack, veth, scheduler"
_LINE = re.compile(r"\s*([0-9.]+)%\s+\[([.k])\]\s+(\S+)")


def available() -> bool:
    return shutil.which("perf") is not None


def shares(directory: Path, call: Callable[[], object]) -> dict[str, float]:
    """Class -> share of the CPU time that was not idle, while `call` runs; and `symbols`, the
    share of each symbol above 0.5 %, likewise.

    :raises CalledProcessError: if perf fails.
    """
    file = directory / "perf.data"
    recorder = subprocess.Popen(
        ["perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-a", "-o", str(file)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        call()
    finally:
        recorder.terminate()
        recorder.wait(timeout=30)
    report = subprocess.run(
        ["perf", "report", "-i", str(file), "--stdio", "--sort", "sym", "-g", "none"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    file.unlink()
    return classified(report)


def classified(report: str) -> dict[str, float]:
    """What perf report printed, by class, without what is idle.

    :raises ValueError: if there is nothing in it.
    """
    found: dict[str, float] = {}
    for line in report.splitlines():
        match = _LINE.match(line)
        if match:
            share, where, symbol = float(match[1]), match[2], match[3]
            kind = USER if where == "." else _class(symbol)
            found[kind] = found.get(kind, 0.0) + share
    found.pop("idle", None)
    total = sum(found.values())
    if not total:
        raise ValueError("perf saw nothing")
    return {kind: share / total for kind, share in found.items()}


def _class(symbol: str) -> str:
    return next((kind for kind, pattern in CLASSES if re.search(pattern, symbol)), STACK)
