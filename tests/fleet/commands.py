# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that modules run on a host, and what a simulated one answers.

`brine` itself runs, above a simulated kernel. Whatever is not here is an error, so that no task
can come to be that the simulation takes for done.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from brine import cli
from tests.fleet.kernel import Kernel
from tests.fleet.show import show

Answer = tuple[int, str, str]  #: exit status, standard output, standard error

BRINE = "/opt/brine/venv/bin/brine"
VERBS = ("identity ensure", "dataplane apply", "peers apply", "verify", "gate")
UNITS = Path("/etc/systemd/system")
DAEMON = "brined.service"
LIFELINE = "brine-lifeline"
CONTROL_SOCKET = Path("/run/brine/control.sock")


class Unknown(Exception):
    """The stand-in cannot say what a real host would."""


class Commands:
    def __init__(
        self, kernel: Kernel, fault: str | None, daemon_pid: int, cut: str | None = None
    ) -> None:
        """fault, cut: the beginning of a command that fails, and of one that cuts the host off."""
        self._kernel = kernel
        self._memory = kernel.memory
        self._fault = fault
        self._cut = cut
        self._daemon_pid = daemon_pid

    def run(self, given: str | Sequence[str]) -> Answer:
        """
        :raises Unknown: if there is no such command.
        """
        words = shlex.split(given) if isinstance(given, str) else list(map(os.fspath, given))
        program, arguments = words[0], words[1:]
        name = os.path.basename(program)
        line = " ".join([name, *arguments])
        if self._cut and line.startswith(self._cut):
            self._kernel.cut_off()
        if self._fault and line.startswith(self._fault):
            return self._fail(name)
        if program == BRINE:
            return self._brine(arguments)
        if name == "systemctl":
            return self._systemctl(*arguments)
        if name == "systemd-run" and f"--unit={LIFELINE}" in arguments:
            return self._arm()
        if arguments[:2] == ["-m", "venv"]:
            return _make_environment(Path(arguments[-1]))
        if name == "python" and arguments[0].endswith(".whl/pip") and "install" in arguments:
            return _install(Path(program).parent, arguments)
        raise Unknown(f"a simulated host has no {shlex.join(words)}")

    def _fail(self, name: str) -> Answer:
        if name == "brine":
            error = {"cause": "it was told to fail", "next_step": "leave it at that"}
            return 1, json.dumps({"error": error}), ""
        return 1, "", "it was told to fail"

    def _brine(self, arguments: list[str]) -> Answer:
        if not " ".join(arguments).startswith(VERBS):
            raise Unknown(f"a simulated host knows no `brine {shlex.join(arguments)}`")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(arguments)
        return code, out.getvalue(), err.getvalue()

    # systemd

    def _arm(self) -> Answer:
        if LIFELINE in self._active():
            return 1, "", f"Unit {LIFELINE}.timer was already loaded."
        self._memory.store("active", self._active() | {LIFELINE})
        return 0, "", ""

    def _systemctl(self, verb: str, *arguments: str) -> Answer:
        if verb == "daemon-reload":
            self._memory.store("reloads", self._memory.load("reloads", 0) + 1)
            return 0, "", ""
        if verb == "show" and arguments[0] == "--property=MainPID":
            return 0, f"{self._pid(arguments[-1])}\n", ""
        if verb == "is-active":
            active = any(unit.partition(".")[0] in self._active() for unit in arguments[1:])
            return (0, "", "") if active else (3, "", "")
        unit = arguments[0]
        verbs: dict[str, Callable[[str], Answer]] = {
            "show": self._show,
            "is-enabled": self._is_enabled,
            "enable": self._enable,
            "start": self._start,
            "restart": self._start,
            "reload": self._reload,
            "stop": self._stop,
            "reset-failed": self._stop,
        }
        if verb not in verbs:
            raise Unknown(f"a simulated host knows no systemctl {verb} {shlex.join(arguments)}")
        return verbs[verb](unit)

    def _pid(self, unit: str) -> int:
        runs = unit == DAEMON and self._kernel.daemon_runs()
        return self._daemon_pid if runs else 0

    def _show(self, unit: str) -> Answer:
        if not (UNITS / unit).exists():
            raise Unknown(f"a simulated host has no {unit}")
        active = unit in self._active()
        return 0, show(unit, active, self._is_enabled(unit)[0] == 0, self._pid(unit)), ""

    def _wants(self, unit: str) -> Path:
        wanted = re.search(r"^WantedBy=(\S+)$", (UNITS / unit).read_text(), re.MULTILINE)
        assert wanted is not None, unit
        return UNITS / f"{wanted.group(1)}.wants" / unit

    def _is_enabled(self, unit: str) -> Answer:
        enabled = self._wants(unit).is_symlink()
        return (0, "enabled\n", "") if enabled else (1, "disabled\n", "")

    def _enable(self, unit: str) -> Answer:
        link = self._wants(unit)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(UNITS / unit)
        return 0, "", f"Created symlink {link} → {UNITS / unit}.\n"

    def _active(self) -> set[str]:
        units: set[str] = self._memory.load("active", set())
        return units

    def _start(self, unit: str) -> Answer:
        """A condition that is not met is no failure, and the unit stays inactive."""
        text = (UNITS / unit).read_text()
        program = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
        if program is None or not os.access(program.group(1), os.X_OK):
            return 1, "", f"Job for {unit} failed."
        condition = re.search(r"^ConditionPathExists=(\S+)$", text, re.MULTILINE)
        if condition is not None and not os.path.exists(condition.group(1)):
            return 0, "", ""
        if unit == DAEMON:
            variables = re.findall(r"^Environment=(\S+)$", text, re.MULTILINE)
            interpreter = Path(program.group(1)).resolve().parent / "python"
            self._memory.write("daemon/environ", "\0".join(variables).encode() + b"\0")
            self._memory.write("daemon/cmdline", f"{interpreter}\0{program.group(1)}\0".encode())
            CONTROL_SOCKET.parent.mkdir(mode=0o700, exist_ok=True)
            CONTROL_SOCKET.touch()
        self._memory.store("active", self._active() | {unit})
        return 0, "", ""

    def _reload(self, unit: str) -> Answer:
        return (0, "", "") if unit in self._active() else (1, "", f"{unit} is not active.")

    def _stop(self, unit: str) -> Answer:
        """Of the timer and the service of the lifeline, which need not be there."""
        if not unit.startswith(f"{LIFELINE}."):
            raise Unknown(f"a simulated host stops no {unit}")
        if LIFELINE not in self._active():
            return 5, "", f"Unit {unit} not loaded."
        self._memory.store("active", self._active() - {LIFELINE})
        return 0, "", ""


def _make_environment(environment: Path) -> Answer:
    binaries = environment / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to("/usr/bin/python3")
    return 0, "", ""


def _install(binaries: Path, arguments: list[str]) -> Answer:
    """The wheels must be there; only the commands of brine's are made."""
    wheels = [Path(word) for word in arguments if word.endswith(".whl")]
    if not all(wheel.stat().st_size for wheel in wheels):
        return 1, "", "ERROR: a wheel is empty"
    if not any(wheel.name.startswith("brine-") for wheel in wheels):
        return 1, "", "ERROR: no wheel of brine"
    for command in ("brine", "brined"):
        (binaries / command).write_text(f"#!{binaries}/python\n")
        (binaries / command).chmod(0o755)
    return 0, "", ""
