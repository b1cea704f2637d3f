# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon that runs was started from, as its process tells: no note that an interrupted
play could have left out, and no clock."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

UNIT = "brined.service"
# The unit gives it to the process: which unit it is, by a digest of its template.
VARIABLE = "BRINED_UNIT"


def main_pid(module: AnsibleModule) -> int:
    """The daemon's process id, or 0 if none runs."""
    systemctl = module.get_bin_path("systemctl")
    if systemctl is None:
        return 0
    shown = module.run_command([systemctl, "show", "--property=MainPID", "--value", UNIT])[1]
    return int(shown.strip() or 0)


def environment(pid: int, root: Path) -> str | None:
    """The environment below `root` that the process was started from, by its interpreter."""
    try:
        command_line = Path("/proc", str(pid), "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    interpreter = Path(os.fsdecode(command_line.split(b"\0", maxsplit=1)[0]))
    return str(interpreter.parents[1]) if root / "venvs" in interpreter.parents else None


def unit(pid: int) -> str | None:
    """The digest of the unit that the process was started by.

    PermissionError unless asked by root: the daemon lets nobody else look into its process.
    """
    try:
        variables = Path("/proc", str(pid), "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    for variable in variables.split(b"\0"):
        name, _equals, value = os.fsdecode(variable).partition("=")
        if name == VARIABLE:
            return value
    return None


def installed_unit(path: Path) -> str | None:
    """The digest that the unit's file gives a process that is started now."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    found = re.search(rf"^Environment={VARIABLE}=(.+)$", text, re.MULTILINE)
    return found.group(1) if found else None
