# SPDX-License-Identifier: GPL-3.0-or-later
"""`systemctl show UNIT`, as systemd 252 of Debian 12 answered it for brine's own units.

All of it comes back to the controller, with every task about a unit; so all of it is here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_RECORDED = Path(__file__).with_name("recorded")


def show(unit: str, active: bool, enabled: bool, pid: int) -> str:
    """The properties of the unit, those that change as they are now."""
    service = unit == "brined.service"
    now = {
        "ActiveState": "active" if active else "inactive",
        "SubState": ("running" if service else "exited") if active else "dead",
        "UnitFileState": "enabled" if enabled else "disabled",
        "MainPID": str(pid),
    }
    lines = []
    for line in recorded(unit):
        name, _equals, _value = line.partition("=")
        lines.append(f"{name}={now[name]}" if name in now else line)
    return "".join(f"{line}\n" for line in lines)


@cache
def recorded(unit: str) -> tuple[str, ...]:
    return tuple((_RECORDED / f"{unit}.show").read_text().splitlines())
