# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon a host with 1000 peers has all its associations again after a restart:
python -m bench restart.

The host under test is brine as the roles set it up. Its peers are identities that one process
answers for with brine's own library, from an address each (responders.py). A round loses the data
path and the daemon, as a reboot does, and makes both again; then a packet leaves for every peer
at once. An entry is one round, in s from its begin, each stage including those before:

    data_path    maps made and filled, programs attached
    daemon       brined listens
    all          every peer has a confirmed association; its first packet has arrived
    daemon_cpu, responders_cpu   CPU s that it took the two
    peers, daemon_memory, maps, idle    as in scaling.py, with all associations standing
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.results import Results, Settings
from bench.rig import UNDERLAY, Rig, rig
from bench.scaling import IDLE_SECONDS, idle_share, process_seconds, resident
from bench.tunnels.base import PORT, wait_for
from bench.tunnels.brine import SOURCE, BrineHost, bpffs, build, entry
from brine import config as configuration
from brine import keys
from brine.maps import Maps

SECTION = "restart"
PEERS = 1000
UNDERLAYS = ipaddress.IPv4Network("100.64.0.0/16")
INNERS = ipaddress.IPv4Network("198.19.0.0/16")
ALL_WITHIN = 300  #: s, or the round has failed
DISCARD = 9  #: the UDP port that first packets are for


class Mesh:
    """The host under test, and its peers."""

    def __init__(self, made: Rig, count: int, pins: Path) -> None:
        self.rig = made
        self.count = count
        bpf_object = build(made.work / "object")
        self.side = BrineHost(made, made.a, pins, bpf_object, count + 1)
        private = [keys.generate_private() for _ in range(count)]
        self.inners = [str(INNERS[number]) for number in range(1, count + 1)]
        underlays = [str(UNDERLAYS[number]) for number in range(1, count + 1)]
        self.side.know(
            [
                self.side.entry(),
                *(
                    entry(f"peer{number}", keys.public_key(key), underlay, inner)
                    for number, (key, underlay, inner) in enumerate(
                        zip(private, underlays, self.inners, strict=True)
                    )
                ),
            ]
        )
        made.a.ip("route", "add", str(UNDERLAYS), "via", made.b.underlay, "dev", UNDERLAY)
        made.b.ip("route", "add", "local", str(UNDERLAYS), "dev", "lo")
        given = {
            "object": str(bpf_object),
            "port": PORT,
            "peer": keys.show_key(self.side.public),
            "private": {
                underlay: base64.b64encode(key).decode()
                for underlay, key in zip(underlays, private, strict=True)
            },
        }
        path = made.work / "responders.json"
        path.touch(0o600)
        path.write_text(json.dumps(given), encoding="utf-8")
        self._responders = subprocess.Popen(
            made.b.command(*_python(), "bench.responders", str(path)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._responders.stdout is not None
        if self._responders.stdout.readline() != "ready\n":
            raise RuntimeError("the responders did not start")

    def close(self) -> dict[str, int]:
        """End the responders; what they have counted."""
        self._responders.send_signal(signal.SIGTERM)
        output, _ = self._responders.communicate(timeout=30)
        counted: dict[str, int] = json.loads(output)
        return counted

    def restart(self, seconds: float) -> dict[str, Any]:
        """One round."""
        self.side.stop()
        if self.side.pins.exists():
            self.side.forget()
        sender = subprocess.Popen(  # so that its start is no part of the time
            self.rig.a.command(*_python(), __name__, *self.inners), stdin=subprocess.PIPE
        )
        assert sender.stdin is not None
        answering = process_seconds(self._responders.pid)
        begin = time.monotonic()
        self.side.apply()
        data_path = time.monotonic() - begin
        self.side.start()
        daemon = time.monotonic() - begin
        sender.stdin.close()
        with Maps.of(configuration.load(self.side.paths)) as maps:
            wait_for(lambda: self._all_stand(maps), "associations are missing", ALL_WITHIN)
        every = time.monotonic() - begin
        if sender.wait(timeout=30):
            raise RuntimeError("the first packets did not leave")
        return {
            "peers": self.count,
            "data_path": data_path,
            "daemon": daemon,
            "all": every,
            "daemon_cpu": process_seconds(self.side.pid),
            "responders_cpu": process_seconds(self._responders.pid) - answering,
            "idle": idle_share(self.side.pid, IDLE_SECONDS * seconds),
            "daemon_memory": resident(self.side.pid),
            "maps": self.side.map_memory(),
        }

    def _all_stand(self, maps: Maps) -> bool:
        """The maps fill the first `count` slots."""
        heard = (maps.peer_state(number).last_received for number in range(self.count))
        if not all(heard):
            return False
        confirmed = {one.peer for one in maps.associations() if one.state == "confirmed"}
        return confirmed == set(range(self.count))


def _python() -> tuple[str, ...]:
    return "env", f"PYTHONPATH={SOURCE}", sys.executable, "-m"


def send_first() -> None:
    """As a program inside the host: once its input ends, a packet to each of its arguments."""
    sys.stdin.read()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for number, address in enumerate(sys.argv[1:], 1):
            out.sendto(b"first", (address, DISCARD))
            if not number % 50:
                time.sleep(0.001)  # brined reads a ring of limited size


def run(settings: Settings, results: Results) -> None:
    """All rounds, behind one that is not counted: nobody knows the host yet."""
    results.begin(SECTION)
    with (
        tempfile.TemporaryDirectory(prefix="brine-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        made = stack.enter_context(rig(f"{os.getpid():x}", Path(name)))
        pins = stack.enter_context(bpffs(Path(name, "bpf")))
        mesh = Mesh(made, PEERS, pins)
        print(f"bench: restart: {PEERS} peers", flush=True)
        mesh.restart(settings.seconds)
        for number in range(settings.rounds):
            print(f"bench: restart: round {number + 1}/{settings.rounds}", flush=True)
            results.add(SECTION, {"round": number, **mesh.restart(settings.seconds)})
        print(f"bench: restart: the peers have {mesh.close()}", flush=True)


if __name__ == "__main__":
    send_first()
