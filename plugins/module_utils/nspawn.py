# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a lab of systemd-nspawn hosts keeps what, and how to tell its state.

A lab has a name, which prefixes everything that it shares with the machine, so
that several labs run side by side:

    /var/cache/brine-lab/          root file systems that hosts are laid over, by content
    /var/lib/brine-lab/LAB/        ssh key, ssh configuration; per host disk, spec, console log
    /run/brine-lab/LAB/HOST/       what lives and dies with the running host
    brine-LAB                      network namespace holding the lab's bridge
    brine-LAB-HOST                 the host's unit or control group
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import time
import typing as t
from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

CACHE = Path("/var/cache/brine-lab")
STATE = Path("/var/lib/brine-lab")
RUNTIME = Path("/run/brine-lab")

# Also a network interface's name (15 characters) and part of a unit's.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")

BRIDGE = "underlay"

# Where a host's systemd listens for ssh.
SSH_SOCKET = "/run/sshd.sock"


def check_name(module: AnsibleModule, parameter: str, value: str) -> None:
    """Fail the task if `value` names neither a lab nor a host."""
    if not NAME.fullmatch(value):
        rule = "1 to 15 lower-case letters, digits and inner hyphens"
        module.fail_json(msg=f"{parameter}: {value!r} is no name; it takes {rule}.")


def network_namespace(lab: str) -> str:
    """Name of the network namespace that holds the bridge of `lab`."""
    return f"brine-{lab}"


def ssh_key(lab: str) -> Path:
    """The private key that opens the hosts of `lab`."""
    return STATE / lab / "ssh_key"


def ssh_config(lab: str) -> Path:
    """The ssh configuration that leads to the hosts of `lab`, each by its name."""
    return STATE / lab / "ssh_config"


def ssh_config_text(lab: str) -> str:
    """What `ssh_config` holds. The way to a host is this machine's kernel: a socket in the
    host's own file system, where its systemd listens and starts sshd. A host that is reached
    otherwise says so in a configuration of its own."""
    return f"""\
Include {STATE}/{lab}/*/ssh_config
Match exec "test -e {RUNTIME}/{lab}/%n/leader"
    ProxyCommand nc -U /proc/$(cat {RUNTIME}/{lab}/%n/leader)/root{SSH_SOCKET}
    ControlMaster auto
    ControlPath {RUNTIME}/{lab}/%n/ssh
    ControlPersist 60
Host *
    User root
    IdentityFile {ssh_key(lab)}
    IdentitiesOnly yes
    # There is nobody on that way to mistake a host for.
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""


def running_hosts(lab: str) -> list[str]:
    """Names of the running hosts of `lab`."""
    names = sorted(path.name for path in (RUNTIME / lab).glob("*"))
    return [name for name in names if Host(lab, name).is_supervised()]


class Host:
    """One host of a lab, running or not."""

    def __init__(self, lab: str, host: str) -> None:
        self.lab = lab
        self.name = host
        self.unit = f"brine-{lab}-{host}"
        self.directory = STATE / lab / host
        self.runtime = RUNTIME / lab / host
        self.root = self.directory / "root"
        self.upper = self.directory / "upper"
        self.console = self.directory / "console.log"
        self.supervisor = self.directory / "supervisor.py"

    def spec(self) -> dict[str, t.Any] | None:
        """The specification that the host was made from, or None if there is no host."""
        try:
            text = (self.directory / "spec.json").read_text()
        except FileNotFoundError:
            return None
        spec: dict[str, t.Any] = json.loads(text)
        return spec

    def write_spec(self, spec: dict[str, t.Any]) -> None:
        """Record the specification; the supervisor reads it."""
        (self.directory / "spec.json").write_text(json.dumps(spec, indent=2, sort_keys=True) + "\n")

    def start(self, command: Sequence[str], descriptors: Sequence[int] = ()) -> int:
        """Start what runs the host: it outlives the module, says what it says on the console,
        and inherits `descriptors`. Returns its process id."""
        with self.console.open("ab") as console:
            return subprocess.Popen(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                pass_fds=descriptors,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            ).pid

    def is_supervised(self) -> bool:
        """Whether a supervisor lives, also one that has only just begun.

        It holds a lock for as long as it lives, so a stale file of a dead
        supervisor, or of an earlier boot of this machine, misleads nobody.
        """
        try:
            with (self.runtime / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def supervisor_pid(self) -> int | None:
        """Process id of the living supervisor, or None if there is none, or none yet."""
        if not self.is_supervised():
            return None
        # One that starts has locked the file before it writes it.
        text = (self.runtime / "lock").read_text()
        return int(text) if text else None

    def leader(self) -> int | None:
        """Process id of the host's init once it has booted, else None."""
        if self.supervisor_pid() is None or not (self.runtime / "ready").exists():
            return None
        try:
            return int((self.runtime / "leader").read_text())
        except FileNotFoundError:
            return None  # it went down meanwhile

    def wait_until_booted(self, seconds: float) -> int:
        """Process id of the host's init. Raises RuntimeError if it does not boot in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            leader = self.leader()
            if leader is not None:
                return leader
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not boot within {seconds:.0f} s; see {self.console}")

    def console_tail(self, lines: int = 20) -> list[str]:
        """The last lines of the console log."""
        try:
            return self.console.read_text(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []

    def wait_until_started(self, seconds: float = 60) -> None:
        """Wait for the supervisor to hold its lock. Raises RuntimeError if it does not."""
        deadline = time.monotonic() + seconds
        while self.supervisor_pid() is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the supervisor of {self.name} ended; see {self.console}")
            time.sleep(0.02)

    def stop(self, seconds: float = 60) -> None:
        """Pull the plug and wait until nothing of the running host is left. A supervisor that
        has only just begun is told as soon as it can be."""
        told: int | None = None
        deadline = time.monotonic() + seconds
        while self.is_supervised():
            pid = self.supervisor_pid()
            if pid is not None and pid != told:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(pid, signal.SIGTERM)
                told = pid
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not stop; its supervisor is process {told}")
            time.sleep(0.02)
