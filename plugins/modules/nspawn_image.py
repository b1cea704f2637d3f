#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the root file system that lab hosts are laid over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_image
short_description: Build the Debian root file system that lab hosts start from
version_added: 1.0.0
description:
  - Builds it with mmdebstrap, once for every combination of options, into C(/var/cache/brine-lab).
    Hosts lay their own disk over it and never write to it.
  - It boots with systemd, starts sshd that accepts keys only, and lacks what makes no sense in
    a container (udev, login prompts).
options:
  suite:
    description: Debian release.
    type: str
    default: bookworm
  packages:
    description: Packages it holds, besides the essential ones.
    type: list
    elements: str
    required: true
  mirror:
    description: Where the packages come from.
    type: str
    default: http://deb.debian.org/debian
requirements:
  - root on a Debian machine with mmdebstrap
attributes:
  check_mode:
    description: Predicts without changing.
    support: full
  diff_mode:
    description: Does not show differences.
    support: none
seealso:
  - module: brine.mesh.nspawn_host
author:
  - The brine authors (@brine)
"""

EXAMPLES = r"""
- name: Build what the lab's hosts start from
  brine.mesh.nspawn_image:
    packages: [systemd, systemd-sysv, dbus, openssh-server, python3]
  register: image
"""

RETURN = r"""
path:
  description: Directory that holds the root file system.
  returned: always
  type: str
  sample: /var/cache/brine-lab/bookworm-3f2a90c15d77
"""

import fcntl
import hashlib
import json
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import nspawn

# Need hardware or a terminal, or mount what belongs to the machine.
MASKED_UNITS = (
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "getty.target",
    "console-getty.service",
    "systemd-modules-load.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "dev-hugepages.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "ssh.service",
    "sshd.service",
)

SSHD_CONFIG = """\
PasswordAuthentication no
PermitRootLogin prohibit-password
HostKey /etc/ssh/ssh_host_ed25519_key
PrintMotd no
UseDNS no
UsePAM no
"""

# sshd runs for one connection, started by systemd: a child of the host's own init, whose end is
# seen and waited for at shutdown, and which needs no network.
SSH_UNITS = {
    "ssh.socket": f"""\
[Unit]
Description=ssh from the machine that runs this host

[Socket]
ListenStream={nspawn.SSH_SOCKET}
SocketMode=0600
Accept=yes
MaxConnections=1000

[Install]
WantedBy=sockets.target
""",
    "ssh@.service": """\
[Unit]
Description=ssh from the machine that runs this host

[Service]
ExecStart=-/usr/sbin/sshd -i
StandardInput=socket
StandardError=journal
RuntimeDirectory=sshd
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
""",
}

# Not needed to run a host, and half of its size.
EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


def finish(root: Path) -> None:
    """Turn a fresh root file system into one that many hosts can start from."""
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")  # each host gets its own at its first boot
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/ssh/sshd_config.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text(SSHD_CONFIG)
    for name, text in SSH_UNITS.items():
        (root / "etc/systemd/system" / name).write_text(text)
    wanted = root / "etc/systemd/system/sockets.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "ssh.socket").symlink_to("../ssh.socket")
    for unit in MASKED_UNITS:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


def build(module: AnsibleModule, path: Path) -> None:
    """Build the root file system at `path`, which appears only when it is complete."""
    unfinished = path.with_name(path.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase"]
    command += [f"--include={','.join(module.params['packages'])}"]
    command += [f"--dpkgopt=path-exclude={excluded}" for excluded in EXCLUDED_PATHS]
    command += [module.params["suite"], str(unfinished), module.params["mirror"]]
    status, _output, errors = module.run_command(command)
    if status:
        shutil.rmtree(unfinished, ignore_errors=True)
        module.fail_json(
            msg=f"mmdebstrap could not build {module.params['suite']} from "
            f"{module.params['mirror']}: check the mirror and the packages' names.\n{errors}"
        )
    finish(unfinished)
    unfinished.rename(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "suite": {"type": "str", "default": "bookworm"},
            "packages": {"type": "list", "elements": "str", "required": True},
            "mirror": {"type": "str", "default": "http://deb.debian.org/debian"},
        },
        supports_check_mode=True,
    )
    recipe = json.dumps(
        [
            sorted(module.params["packages"]),
            module.params["mirror"],
            MASKED_UNITS,
            SSHD_CONFIG,
            SSH_UNITS,
            EXCLUDED_PATHS,
        ]
    )
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    path = nspawn.CACHE / f"{module.params['suite']}-{digest}"
    if module.check_mode:
        module.exit_json(changed=not path.exists(), path=str(path))
    nspawn.CACHE.mkdir(parents=True, exist_ok=True)
    with (nspawn.CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another lab may want the same one now
        changed = not path.exists()
        if changed:
            build(module, path)
    module.exit_json(changed=changed, path=str(path))


if __name__ == "__main__":
    main()
