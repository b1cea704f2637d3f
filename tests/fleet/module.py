# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs what the controller sends to a host: AnsiballZ of a module, or a line for the shell.

A module's code is the controller's, from the archive that it sent. Of `ansible.module_utils`,
whatever the process has imported already stays what it is: the same files, on this machine.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import subprocess
import sys
import typing as t

import ansible
from ansible import module_utils
from ansible.module_utils._internal._ansiballz import _loader
from ansible.module_utils.basic import AnsibleModule

from tests.fleet.commands import Answer, Commands, Unknown

PYTHON = "/usr/bin/python3"
_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}
_SUDO = ["sudo", "-H", "-S", "-n", "-u", "root"]
_ANNOUNCED = re.compile(r"echo BECOME-SUCCESS-\w+ ; (.*)", re.DOTALL)
_END = " && sleep 0"
# What Ansible itself does on a host beside running modules, with the shell.
_OWN = re.compile(r"(?:\( umask 77 && mkdir |chmod |echo ~\w*$|rm -f -r |test )")


def parse(command: str) -> tuple[bool, str]:
    """Whether root runs it, and the line for the shell, from what the controller asks of ssh.

    :raises Unknown: if it is nothing that Ansible asks.
    """
    words = shlex.split(command)
    if words[:2] != ["/bin/sh", "-c"] or len(words) != 3:
        raise Unknown(f"a simulated host takes nothing but what modules need: {command}")
    line = words[2]
    if not line.startswith("sudo "):
        return False, line.removesuffix(_END)
    words = shlex.split(line.removesuffix(_END))
    announced = _ANNOUNCED.fullmatch(words[-1])
    if words[:-1] != [*_SUDO, "/bin/sh", "-c"] or announced is None:
        raise Unknown(f"a simulated host takes nothing but what modules need: {command}")
    return True, announced[1]


def environment(root: bool) -> dict[str, str]:
    return {**_ENVIRONMENT, "HOME": "/root" if root else "/home/admin"}


def run(command: str, data: bytes, commands: Commands) -> int:
    """Run it, inside a host's root; the exit status. It writes to descriptors 1 and 2."""
    root, line = parse(command)
    os.environ.clear()
    os.environ.update(environment(root))
    if not data:
        if _OWN.match(line) is None:
            raise Unknown(f"a simulated host runs no {line}")
        shell = ["/bin/sh", "-c", line]
        return subprocess.run(shell, check=False, stdin=subprocess.DEVNULL).returncode
    if line != PYTHON:
        raise Unknown(f"{line} is no interpreter")
    _stand_in(commands)
    try:
        exec(compile(data, "<stdin>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _stand_in(commands: Commands) -> None:
    """Have modules in this process ask `commands`, and nobody else."""

    def run_command(
        module: AnsibleModule, args: t.Any, check_rc: bool = False, **_options: t.Any
    ) -> Answer:
        code, out, err = commands.run(args)
        if check_rc and code:
            module.fail_json(cmd=args, rc=code, stdout=out, stderr=err, msg=err.rstrip())
        return code, out, err

    def no_process(*arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise Unknown(f"a simulated host runs no process {arguments}")

    AnsibleModule.run_command = run_command
    subprocess.Popen.__init__ = no_process  # type: ignore[method-assign]
    sys.executable, sys.argv = PYTHON, [""]
    sent = _loader.run_module

    def run_module(*, modlib_path: str, **options: t.Any) -> None:
        ansible.__path__.insert(0, f"{modlib_path}/ansible")
        module_utils.__path__.insert(0, f"{modlib_path}/ansible/module_utils")
        sent(modlib_path=modlib_path, **options)

    _loader.run_module = run_module
