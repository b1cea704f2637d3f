# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's part: a real data path, in a network namespace, whose maps are filled from a roster of
N hosts, and the daemon that reads them."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brine import dataplane, keys, status
from tests.integration.hosts import Host
from tests.integration.namespaces import Switch, mount_bpffs, private_mounts
from tests.labs import ROOT
from tests.scale import inventory


@dataclass(frozen=True)
class Row:
    hosts: int
    load: float  #: s, for making the maps and loading the programs
    first: float  #: s, for filling them
    again: float  #: s, for finding that nothing has changed
    one: float  #: s, for one host more
    start: float  #: s, until the daemon is ready
    status: float  #: s, for `brine status`
    maps: int  #: bytes that the kernel counts
    daemon: int  #: bytes, resident


def measure(count: int, directory: Path, bpffs: Path, bpf_object: Path) -> Row:
    switch = Switch()
    host = Host(switch, 1, directory, bpffs, bpf_object)
    try:
        host.configure(roster(host, count))
        host.change(max_peers=count + 1)
        load = timed(lambda: host.inside(dataplane.apply, host.config, False))
        first = timed(host.apply_peers)
        again = timed(host.apply_peers)
        host.paths.roster.write_text(roster(host, count + 1))
        one = timed(host.apply_peers)
        start = timed(host.start)
        look = timed(lambda: host.inside(status.collect, host.config))
        return Row(count, load, first, again, one, start, look, map_bytes(host), daemon_bytes(host))
    finally:
        host.close()
        switch.close()


def timed(call: Callable[[], Any]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def roster(host: Host, count: int) -> str:
    """Of this host and so many others."""
    others = [
        {
            "name": name,
            "public_key": key,
            "endpoint": f"{inventory.UNDERLAY + number}:4747",
            "addresses": [
                str(inventory.OVERLAY + number),
                str(keys.overlay_address(keys.parse_key(key))),
            ],
            "allowed_ips": [],
            "roaming": False,
        }
        for number, (name, key) in enumerate(
            zip(inventory.names(count), inventory.public_keys(count), strict=True), 1
        )
    ]
    own = {**host.entry(4), "addresses": ["10.127.0.1", str(host.inner6)]}
    given = {"version": 1, "networks": inventory.NETWORKS, "peers": [own, *others]}
    return json.dumps(given)


def map_bytes(host: Host) -> int:
    """What the kernel counts for the pinned maps."""
    total = 0
    for path in (host._bpffs / host.name).glob("v*/*"):
        done = subprocess.run(
            ["bpftool", "--json", "map", "show", "pinned", str(path)],
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            total += int(json.loads(done.stdout)["bytes_memlock"])
    return total


def daemon_bytes(host: Host) -> int:
    assert host._daemon is not None
    text = Path(f"/proc/{host._daemon.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def table(counts: list[int]) -> str:
    lines = [
        (
            "| hosts | load, s | fill the maps, s | nothing changed, s | one host more, s"
            " | daemon ready, s | status, s | maps, MiB | daemon, MiB |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    private_mounts()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "bpffs").mkdir()
        mount_bpffs(str(top / "bpffs"))
        subprocess.run(
            ["make", "-C", str(ROOT / "bpf"), f"BUILD={top}"], check=True, capture_output=True
        )
        for count in counts:
            directory = top / f"n{count}"
            row = measure(count, directory, top / "bpffs", top / "brine.bpf.o")
            times = (row.load, row.first, row.again, row.one, row.start, row.status)
            sizes = (row.maps / 2**20, row.daemon / 2**20)
            cells = [f"{value:.2f}" for value in times] + [f"{value:.0f}" for value in sizes]
            lines.append(f"| {count} | {' | '.join(cells)} |")
        subprocess.run(["umount", str(top / "bpffs")], check=True)
    return "\n".join(lines)
