# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tunnel must do to be measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.rig import PLACEMENTS, Host, Rig

PORT = 5000


class Tunnel:
    """Joins the two hosts of a rig so that their inner addresses reach each other.

    A tunnel is started on a fresh rig; the rig ends its processes and its devices.
    """

    name = ""
    package = ""  # whose version the report names
    device = "t0"
    placements: tuple[str, ...] = PLACEMENTS  #: in which it says something

    def __init__(self, rig: Rig, root: Path) -> None:
        self.rig = rig
        self.root = root

    def start(self) -> None:
        """Bring the tunnel up on both hosts."""
        raise NotImplementedError

    def stop(self) -> None:
        """Remove what the rig does not: its processes and devices are the rig's."""

    def map_memory(self) -> int:
        """Bytes that the kernel holds for the tunnel on both hosts, beside processes'."""
        return 0

    # -- for the subclasses

    def inside(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` in the programs' root file system."""
        return ["chroot", str(self.root), *arguments]

    def write(self, host: Host, name: str, text: str) -> str:
        """Write a file of the host; its path inside the root file system."""
        directory = self.rig.work / "run" / host.namespace
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / name
        path.write_text(text)
        path.chmod(0o600)
        return f"/run/{host.namespace}/{name}"

    def address(self, host: Host, device: str | None = None) -> None:
        """Give the tunnel's device its inner address and set it up."""
        name = device or self.device
        wait_for(lambda: self.has_device(host, name), f"{self.name}: no device {name}")
        host.ip("address", "add", f"{host.inner}/24", "dev", name)
        host.ip("link", "set", name, "up")

    def has_device(self, host: Host, name: str) -> bool:
        return name in host.run("ls", "/sys/class/net").split()

    def other(self, host: Host) -> Host:
        return self.rig.b if host is self.rig.a else self.rig.a


def wait_for(condition: Callable[[], bool], failure: str, seconds: float = 20) -> None:
    """Return once `condition` holds. Raises TimeoutError with `failure` in it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(0.05)
