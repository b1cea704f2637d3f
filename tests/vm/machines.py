# SPDX-License-Identifier: GPL-3.0-or-later
"""The two machines, as inventories/vm has them, and how tests bring things there."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.labs import Lab

# Name: the kernel that the Debian release comes with.
MACHINES = {"vm12": "6.1.", "vm13": "6.12."}
OTHER = {"vm12": "vm13", "vm13": "vm12"}

LEFT_OUT = ("__pycache__", ".pyc", "README.md")


def archive(files: Mapping[str, Path]) -> bytes:
    """A tar archive of the files and trees, each under its name."""

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if entry.name.endswith(LEFT_OUT) else entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in files.items():
            tar.add(path, name, filter=wanted)
    return buffer.getvalue()


def push(lab: Lab, machine: str, directory: str, files: Mapping[str, Path]) -> None:
    """Lay the files and trees out below a new directory of the machine."""
    command = f"rm -rf {directory} && mkdir {directory} && tar -x -C {directory}"
    done = subprocess.run(
        ["ssh", "-F", str(lab.state / "ssh_config"), machine, command],
        input=archive(files),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
