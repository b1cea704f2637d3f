# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet: its inventory, its server, and plays on it with what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from brine import keys
from tests.fleet import processes
from tests.fleet.kernel import Place
from tests.fleet.root import USER, SimulatedHost
from tests.fleet.server import REQUESTS, SOCKET
from tests.labs import ROOT, Played
from tests.scale import inventory

_START_SECONDS = 120
_PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))


@dataclass(frozen=True)
class Cost:
    """Of a play. What the simulated hosts took is not the controller's."""

    wall: float  #: s
    controller: float  #: s of processors, of ansible-playbook and all that it ran
    hosts: float  #: s of processors
    main: int  #: bytes, the most that the main process had resident
    forks: int  #: bytes, the most that it and its forks had at once, shared pages counted once
    requests: int  #: to hosts: each is a process of ssh or sftp
    sent: int  #: bytes, with these
    load: float  #: of the machine, the mean of a minute, when it ended


class Fleet:
    """`count` hosts in a new directory, all virgin; to be used in a `with` statement."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.names = inventory.names(count)
        self.inventory = directory / "inventory"
        self.store = self.inventory / "public_keys"
        lines = {"ansible_connection": "fleet", "ansible_user": USER}
        inventory.make(self.inventory, count, lines)
        (directory / "hosts").mkdir()
        for name in self.names:
            self.host(name).directory.mkdir()

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.fleet.server", str(self.directory)]
        self._server = subprocess.Popen(command, cwd=ROOT)
        deadline = time.monotonic() + _START_SECONDS
        while not (self.directory / SOCKET).exists():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server of the fleet did not start")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait()

    def host(self, name: str) -> SimulatedHost:
        return SimulatedHost(self.directory, name)

    def peers(self, name: str) -> set[str]:
        """The public keys that the host's maps hold, as the store writes them."""
        identities = Place(self.host(name).memory).load("identities", set())
        return {keys.show_key(one) for one in identities}

    def play(self, *arguments: str, playbook: str = "site.yml") -> tuple[Played, Cost]:
        """Run a playbook on the fleet."""
        begin, before = time.monotonic(), processes.seconds(self._server.pid)
        log, told = self.directory / "log", self.directory / REQUESTS
        told.write_text("")
        with log.open("w") as file:
            process = subprocess.Popen(
                [_PLAYBOOK, "-i", str(self.inventory), *arguments, playbook],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            with processes.watched(process.pid) as memory:
                _, status, usage = os.wait4(process.pid, 0)
        requests = told.read_text().splitlines()
        process.returncode = os.waitstatus_to_exitcode(status)
        cost = Cost(
            wall=time.monotonic() - begin,
            controller=usage.ru_utime + usage.ru_stime,
            hosts=processes.seconds(self._server.pid) - before,
            main=memory.main,
            forks=memory.all,
            requests=len(requests),
            sent=sum(map(int, requests)),
            load=os.getloadavg()[0],
        )
        return Played(process.returncode, log.read_text()), cost

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "connection"),
            "ANSIBLE_FORCE_COLOR": "0",
            "FLEET_SERVER": str(self.directory / SOCKET),
            "LC_ALL": "C.UTF-8",
        }
