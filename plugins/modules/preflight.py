#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask whether a host can carry the mesh, before anything of it is there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Ask whether a host can carry the mesh
version_added: 1.0.0
description:
  - Looks at everything that brine needs of a host and returns all that is amiss at once.
  - It does not fail for what it finds, so that a play can collect the findings of
    every host in one report with M(brine.mesh.report).
  - Needs nothing on the host but Python. Programs and maps that it loads to try the
    permission are gone when it ends.
author: The brine authors (@brine)
options:
  interface:
    description: The underlay interface.
    type: str
    required: true
  port:
    description: The UDP port that brined will listen on.
    type: int
    default: 4747
  mtu:
    description: The MTU that brine0 is to have. Without it any that IPv6 can live with.
    type: int
  bpffs:
    description: Where brine pins its maps and programs.
    type: path
    default: /sys/fs/bpf/brine
extends_documentation_fragment:
  - brine.mesh.host.facts
attributes:
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Ask the host
  brine.mesh.preflight:
    interface: eth0
  register: probe

- name: Report
  brine.mesh.report:
    title: preflight
    results: probe
  run_once: true
"""

RETURN = r"""
findings:
  description: What is amiss. Empty if nothing is.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: What was looked at.
      type: str
    cause:
      description: What is amiss about it.
      type: str
    next_step:
      description: What to do about it.
      type: str
    fatal:
      description: Whether the mesh cannot be deployed as things are.
      type: bool
host:
  description: What later steps need to know of the host.
  returned: always
  type: dict
  contains:
    machine:
      description: The architecture, as uname gives it.
      type: str
      sample: x86_64
    python:
      description: Version of the Python that modules, and brine, run under.
      type: str
      sample: "3.11"
    kernel:
      description: Release of the running kernel.
      type: str
      sample: 6.1.0-18-amd64
    former:
      description: Whether an upgrade that was cut short has left its copies of what it replaced, see M(brine.mesh.former).
      type: bool
"""

import contextlib
import ctypes
import errno
import os
import platform
import re
import socket
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import kernel
from ansible_collections.brine.mesh.plugins.module_utils.finding import Finding, finding

KERNEL = (6, 1)
PYTHON = (3, 11)
IPV6_MINIMUM_MTU = 1280  # RFC 8200
OVERHEAD = 80  # DATA over IPv6: 40 + 8 + 32 bytes; over IPv4 it is 60
IFF_UP = 1
CONTROL_SOCKET = "/run/brine/control.sock"
FORMER = "/opt/brine/former"


def check_system() -> t.Iterator[Finding]:
    """Root, architecture, Python, systemd."""
    if os.geteuid() != 0:
        yield finding("permission", "the play is not root on this host", "set `become: true`")
    if sys.byteorder != "little" or platform.machine() not in kernel.SYSCALL:
        yield finding(
            "architecture",
            f"{platform.machine()} is not supported",
            f"use a host of {', '.join(sorted(kernel.SYSCALL))}",
        )
    if sys.version_info[:2] < PYTHON:
        have, want = platform.python_version(), ".".join(map(str, PYTHON))
        yield finding(
            "python",
            f"{sys.executable} is Python {have}; brine needs {want} or newer",
            "install one and set ansible_python_interpreter to it",
        )
    if not os.path.isdir("/run/systemd/system"):
        yield finding("systemd", "systemd does not run this host", "use a host that it runs")


def check_kernel(release: str, btf: str = "/sys/kernel/btf/vmlinux") -> t.Iterator[Finding]:
    """Version and BTF."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None or tuple(map(int, numbers.groups())) < KERNEL:
        want = ".".join(map(str, KERNEL))
        yield finding(
            "kernel", f"Linux {release} is older than {want}", f"boot a kernel from {want} on"
        )
    if not os.access(btf, os.R_OK):
        yield finding(
            "btf",
            f"the kernel does not describe its types: there is no {btf}",
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        )


def check_bpf() -> t.Iterator[Finding]:
    """Whether this process may really create maps and load programs: asked of bpf(2) itself."""
    probes: list[tuple[str, t.Callable[[], None]]] = [
        ("create a BPF map", kernel.probe_map),
        ("load an XDP program", lambda: kernel.probe_program(kernel.PROG_TYPE_XDP)),
        ("load a TC program", lambda: kernel.probe_program(kernel.PROG_TYPE_SCHED_CLS)),
    ]
    for what, probe in probes:
        try:
            probe()
        except NotImplementedError:
            return  # check_system has said so
        except OSError as error:
            if error.errno == errno.ENOSYS:
                cause, next_step = "the kernel has no bpf()", "boot one with CONFIG_BPF_SYSCALL=y"
            elif error.errno == errno.EPERM:
                cause = f"the kernel does not let us {what}"
                next_step = (
                    "a container needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a seccomp "
                    "filter that allows bpf(); lockdown must not be `confidentiality`"
                )
            else:
                cause, next_step = f"could not {what}: {error.strerror}", "look at dmesg"
            yield finding("bpf", cause, next_step)
            return


def check_libbpf() -> t.Iterator[Finding]:
    try:
        ctypes.CDLL("libbpf.so.1")
    except OSError:
        yield finding("libbpf", "libbpf.so.1 cannot be loaded", "install the package libbpf1")


def check_bpffs(bpffs: str) -> t.Iterator[Finding]:
    """Either a bpffs is mounted above `bpffs`, or it could be."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split()[1:3] for line in file]
    if any(kind == "bpf" and bpffs.startswith(f"{point}/") for point, kind in mounts):
        return
    with open("/proc/filesystems", encoding="utf-8") as file:
        known = "bpf" in file.read().split()
    if not known or not os.path.isdir("/sys/fs/bpf"):
        yield finding(
            "bpffs",
            "a BPF file system is neither mounted nor can it be",
            "mount /sys/fs/bpf, or give the container leave to",
        )


def check_interface(name: str, mtu: int | None) -> t.Iterator[Finding]:
    """Existence, state, MTU."""
    interfaces = sorted(set(os.listdir("/sys/class/net")) - {"lo", "brine0", "brine0p"})
    if name not in interfaces:
        yield finding(
            "interface",
            f"there is no interface {name}",
            f"set brine_interface to one of: {', '.join(interfaces)}",
        )
        return

    def read(attribute: str) -> str:
        with open(f"/sys/class/net/{name}/{attribute}", encoding="ascii") as file:
            return file.read().strip()

    if not int(read("flags"), 16) & IFF_UP:
        yield finding("interface", f"{name} is down", f"bring it up: ip link set {name} up")
    have, inner = int(read("mtu")), mtu or IPV6_MINIMUM_MTU
    if have < inner + OVERHEAD:
        yield finding(
            "mtu",
            f"{name} has an MTU of {have}; brine0 with {inner} needs {inner + OVERHEAD} "
            f"({OVERHEAD} bytes go to the seal and the outer headers)",
            f"raise the MTU of {name}" + (", or lower brine_mtu" if mtu else ""),
        )


def check_xdp(name: str, bpffs: str) -> t.Iterator[Finding]:
    """Whether a program that is not ours sits where `open` is to be."""
    try:
        program = kernel.xdp_program(name)
    except OSError:
        return  # check_interface has said so
    if program and program not in our_programs(bpffs):
        yield finding(
            "xdp",
            f"{name} already has an XDP program that is not brine's (id {program})",
            f"see `bpftool prog show id {program}` and take it off, or choose another interface",
        )


def our_programs(bpffs: str) -> set[int]:
    """Ids of the programs that links pinned below `bpffs` attach."""
    programs: set[int] = set()
    for directory, _directories, names in os.walk(bpffs):
        for name in names:
            with contextlib.suppress(OSError):  # another process may unpin meanwhile
                program = kernel.pinned_program(os.path.join(directory, name))
                programs |= {program} if program is not None else set()
    return programs


def check_port(port: int) -> t.Iterator[Finding]:
    """Whether somebody else has our UDP port."""
    if os.path.exists(CONTROL_SOCKET):
        return  # it is brined
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OverflowError:
            return  # no port at all: the check of the inventory says so
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield finding(
                    "port",
                    f"another program has UDP port {port}",
                    f"see `ss -ulpn sport = :{port}`, or set brine_port",
                )
                return


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "required": True},
            "port": {"type": "int", "default": 4747},
            "mtu": {"type": "int"},
            "bpffs": {"type": "path", "default": "/sys/fs/bpf/brine"},
        },
        supports_check_mode=True,
    )
    interface, bpffs = module.params["interface"], module.params["bpffs"]
    release = platform.release()
    module.exit_json(
        changed=False,
        findings=[
            *check_system(),
            *check_kernel(release),
            *check_bpf(),
            *check_libbpf(),
            *check_bpffs(bpffs),
            *check_interface(interface, module.params["mtu"]),
            *check_xdp(interface, bpffs),
            *check_port(module.params["port"]),
        ],
        host={
            "machine": platform.machine(),
            "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "kernel": release,
            "former": os.path.isdir(FORMER),
        },
    )


if __name__ == "__main__":
    main()
