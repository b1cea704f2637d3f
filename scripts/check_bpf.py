# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the kernel of this machine whether it lets us make maps and load programs.

The same probes as the role preflight, before there is any Ansible to run it.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugins" / "module_utils"))

import kernel

BTF = "/sys/kernel/btf/vmlinux"


def fault() -> tuple[str, str] | None:
    """Cause and next step of what is in the way, or None."""
    probes = (
        ("make a BPF map", kernel.probe_map),
        ("load an XDP program", lambda: kernel.probe_program(kernel.PROG_TYPE_XDP)),
        ("load a TC program", lambda: kernel.probe_program(kernel.PROG_TYPE_SCHED_CLS)),
    )
    for what, probe in probes:
        try:
            probe()
        except NotImplementedError as error:
            return f"{error} is not supported", "use an x86_64 or aarch64 machine"
        except OSError as error:
            next_step = "use a machine whose kernel has BPF, XDP and clsact, from Linux 6.1 on"
            if error.errno == errno.EPERM:
                next_step = (
                    "give the container CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and a seccomp filter "
                    "that allows bpf(), or use a virtual machine"
                )
            return f"this kernel does not let us {what}: {error.strerror}", next_step
    if not os.access(BTF, os.R_OK):
        return f"there is no {BTF}", "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    return None


def main() -> int:
    found = fault()
    if found is None:
        return 0
    print("error: {}.\n  Next: {}.".format(*found), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
