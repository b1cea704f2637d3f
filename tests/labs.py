# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs for tests: play on them, look into them, listen on the wire between them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import tempfile
import time
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[1]
HOSTS = ("lab1", "lab2", "lab3")
BRINE = "/opt/brine/venv/bin/brine"


@dataclass(frozen=True)
class Played:
    """What `ansible-playbook` left behind."""

    status: int
    output: str
    secrets: int = 0  #: of the hosts, that were looked for in the output and not found

    def recap(self) -> dict[str, dict[str, int]]:
        """For each host the figures of the recap: ok, changed, failed, …"""
        lines = re.findall(r"^(\S+)\s+: (ok=.*)$", self.output, re.MULTILINE)
        return {
            host: {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", figures)}
            for host, figures in lines
        }

    def changed(self) -> dict[str, int]:
        return {host: figures["changed"] for host, figures in self.recap().items()}


@dataclass(frozen=True)
class Frame:
    """An Ethernet frame from a capture, whole."""

    data: bytes

    @property
    def udp_payload(self) -> bytes | None:
        """The payload, if the frame is UDP over IPv4 without options or fragments, or over IPv6."""
        kind = int.from_bytes(self.data[12:14], "big")
        if kind == 0x0800 and self.data[14] == 0x45 and self.data[23] == 17:
            return self.data[42:]
        if kind == 0x86DD and self.data[20] == 17:
            return self.data[62:]
        return None


class Lab:
    """A lab by its name, up or not."""

    def __init__(
        self, name: str, inventory: Path = ROOT / "inventories/lab", more: Path | None = None
    ) -> None:
        """more: a further inventory, of what is different in this lab."""
        self.name = name
        self.inventory = inventory
        self.more = [more] if more else []
        self.state = Path("/var/lib/brine-lab") / name
        self.store = self.state / "public_keys"

    def up(self) -> None:
        """Make the hosts that are missing, and boot those that are off."""
        played = self.play(str(ROOT / "playbooks/lab.yml"))
        assert played.status == 0, played.output

    def down(self) -> None:
        played = self.play(str(ROOT / "playbooks/lab.yml"), "-e", "lab_state=absent")
        assert played.status == 0, played.output

    def power_off(self, name: str) -> None:
        """Have a host shut down, and wait until it has."""
        self.try_(name, "systemctl poweroff")
        leader = Path("/run/brine-lab", self.name, name, "leader")
        deadline = time.monotonic() + 120
        while leader.exists():
            assert time.monotonic() < deadline, f"{name} does not end"
            time.sleep(0.1)

    def host(self, name: str) -> Host:
        """The host as testinfra sees it, over ssh."""
        config = self.state / "ssh_config"
        return testinfra.get_host(f"ssh://{name}?controlpersist=0", ssh_config=str(config))

    def try_(self, name: str, command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a shell command on a host, with `given` as its standard input."""
        config = self.state / "ssh_config"
        return subprocess.run(
            ["ssh", "-F", str(config), name, command],
            check=False,
            input=given,
            capture_output=True,
            text=True,
        )

    def run(self, name: str, command: str, given: str = "") -> str:
        """The output of a shell command on a host, which must succeed."""
        done = self.try_(name, command, given)
        assert done.returncode == 0, f"{name}: {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, name: str, code: str, *arguments: str) -> str:
        """The output of Python code on a host, under the system's Python."""
        return self.run(name, shlex.join(["python3", "-", *arguments]), code)

    def status(self, name: str) -> dict[str, t.Any]:
        """What `brine status` says there."""
        found: dict[str, t.Any] = json.loads(self.run(name, f"{BRINE} status --json"))
        return found

    def release(self, name: str) -> str:
        """The Debian release of a host, by its code name."""
        return self.run(name, ". /etc/os-release && echo $VERSION_CODENAME").strip()

    def reached(self, name: str, seconds: int = 30) -> set[str]:
        """The peers that answer a host through the mesh."""
        answer = json.loads(self.run(name, f"{BRINE} verify --peers 9 --seconds {seconds} --json"))
        return {one["peer"] for one in answer["reached"]}

    def address(self, name: str) -> str:
        """A host's IPv4 address in the mesh, as inventories/lab gives it."""
        return f"10.77.0.1{name.removeprefix('lab')}"

    def endpoint(self, name: str) -> str:
        """A host's IPv4 address on the underlay, likewise."""
        return f"198.51.100.1{name.removeprefix('lab')}"

    def play(
        self,
        playbook: str,
        *arguments: str,
        inventories: t.Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        directory: Path = ROOT,
    ) -> Played:
        """Run a playbook on the lab.

        inventories: further sources, which take precedence over the lab's own.

        With -vvv, everything is told that modules and facts hold: then no secret that a host
        had before or has afterwards may be in it.
        """
        watched = "-vvv" in arguments
        secrets = self.secrets() if watched else set()
        process = self._play(playbook, arguments, inventories, environment, directory)
        output, _ = process.communicate()
        if watched:
            secrets |= self.secrets()
            told = sum(form in output for secret in secrets for form in forms(secret))
            assert told == 0, f"{playbook} tells secrets of the hosts"
        return Played(process.returncode, output, len(secrets))

    def secrets(self) -> set[str]:
        """Private keys and mesh secrets that the hosts hold, in base64."""
        held: set[str] = set()
        for ready in Path("/run/brine-lab", self.name).glob("*/ready"):
            command = "cat /etc/brine/identity*.key /etc/brine/mesh_secret 2>/dev/null; true"
            held.update(self.run(ready.parent.name, command).split())
        return held

    def play_until(
        self,
        line: str,
        times: int,
        playbook: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        directory: Path = ROOT,
    ) -> Played:
        """Run a playbook and kill all of it at the line that has `line` in it for the nth time.
        It must not end before that."""
        process = self._play(playbook, arguments, (), environment, directory)
        assert process.stdout is not None
        output = ""
        for text in process.stdout:
            output += text
            if line in text:
                times -= 1
                if times == 0:
                    os.killpg(process.pid, signal.SIGKILL)
                    break
        rest, _ = process.communicate()
        assert times == 0, f"the play ended before {line!r}:\n{output}"
        return Played(process.returncode, output + rest)

    def _play(
        self,
        playbook: str,
        arguments: t.Sequence[str],
        inventories: t.Sequence[Path],
        environment: Mapping[str, str] | None,
        directory: Path,
    ) -> subprocess.Popen[str]:
        command = ["ansible-playbook", "-e", f"lab_name={self.name}"]
        for inventory in (self.inventory, *self.more, *inventories):
            command += ["-i", str(inventory)]
        variables = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "LC_ALL": "C.UTF-8",
            **(environment or {}),
        }
        return subprocess.Popen(
            [*command, *arguments, playbook],
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def wire(self, filter_: str = "") -> Iterator[list[Frame]]:
        """Capture what passes the underlay; the frames are in the list at the end.

        On the bridge, between the hosts: neither their kernels nor their programs see it.
        """
        frames: list[Frame] = []
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "wire.pcap")
            process = subprocess.Popen(
                [
                    *("nsenter", f"--net=/run/netns/brine-{self.name}"),
                    *("tcpdump", "--interface=underlay", "--immediate-mode", "-U", "-Z", "root"),
                    *("--snapshot-length=65535", "--buffer-size=16384", "-w", str(path)),
                    *shlex.split(filter_),
                ],
                stderr=subprocess.PIPE,
                text=True,
            )
            assert process.stderr is not None
            try:
                listening = process.stderr.readline()
                assert "listening on" in listening, listening
                yield frames
                time.sleep(0.2)  # what was sent last is still on its way to the file
            finally:
                process.terminate()
                process.communicate()
            frames += read_capture(path.read_bytes())


def forms(secret: str) -> tuple[str, ...]:
    """How 32 bytes, given in base64, may show in an output."""
    raw = base64.b64decode(secret)
    assert len(raw) == 32
    return secret, secret.rstrip("="), raw.hex(), repr(raw)[2:-1], str(list(raw))[1:-1]


def read_capture(data: bytes) -> Iterator[Frame]:
    """The frames of a capture file (pcap-savefile(5), little-endian)."""
    assert data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"), data[:4]
    offset = 24
    while offset < len(data):
        captured, length = struct.unpack_from("<8x2I", data, offset)
        assert captured == length, "a frame was cut off"
        yield Frame(data[offset + 16 : offset + 16 + captured])
        offset += 16 + captured
