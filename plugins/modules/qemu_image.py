#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the disk and the kernel that virtual machines start from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_image
short_description: Build the Debian disk image that virtual machines start from
version_added: 1.0.0
description:
  - Builds it with mmdebstrap, once for every combination of options, into C(/var/cache/brine-lab),
    and takes the release's own kernel out of it. Machines write to a disk of their own over it.
  - A machine becomes the host that its kernel's command line describes; M(brine.mesh.qemu_host)
    writes that. It starts sshd that accepts keys only.
options:
  suite:
    description: Debian release.
    type: str
    default: bookworm
  packages:
    description:
      - Packages it holds, besides the essential ones. Among them must be a kernel,
        V(initramfs-tools) if that does not bring it, V(systemd-sysv), V(udev), V(iproute2) and
        V(openssh-server).
    type: list
    elements: str
    required: true
  mirror:
    description: Where the packages come from.
    type: str
    default: http://deb.debian.org/debian
requirements:
  - root on a Debian machine with mmdebstrap and mke2fs
attributes:
  check_mode:
    description: Predicts without changing.
    support: full
  diff_mode:
    description: Does not show differences.
    support: none
seealso:
  - module: brine.mesh.qemu_host
author:
  - The brine authors (@brine)
"""

EXAMPLES = r"""
- name: Build what the machines start from
  brine.mesh.qemu_image:
    suite: trixie
    packages: [linux-image-cloud-amd64, systemd-sysv, udev, iproute2, openssh-server, python3]
  register: image
"""

RETURN = r"""
path:
  description: Directory that holds C(disk.img), C(vmlinuz) and C(initrd.img).
  returned: always
  type: str
  sample: /var/cache/brine-lab/vm-bookworm-3f2a90c15d77
"""

import fcntl
import hashlib
import json
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import nspawn

DISK_BYTES = 2 << 30  # sparse: takes what is in it

# Room for nothing but a login, or work that no machine of an hour needs.
MASKED_UNITS = (
    "getty.target",
    "serial-getty@ttyS0.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
)

# Not needed to run a host, and half of its size.
EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")

# What is there before the packages are: path, mode, content.
FILES = (
    # Emulation is slow at unpacking: only what leads to the disk and the network.
    ("etc/initramfs-tools/conf.d/lab", 0o644, "MODULES=list\n"),
    (
        "etc/initramfs-tools/hooks/lab",
        0o755,
        """\
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
force_load virtio_pci
force_load virtio_blk
force_load virtio_net
force_load ext4
""",
    ),
    (
        "etc/ssh/sshd_config.d/lab.conf",
        0o644,
        """\
PasswordAuthentication no
PermitRootLogin prohibit-password
HostKey /etc/ssh/ssh_host_ed25519_key
PrintMotd no
UseDNS no
UsePAM no
""",
    ),
    (
        "etc/systemd/system/lab-host.service",
        0o644,
        """\
[Unit]
Description=Become the host that the kernel's command line describes
DefaultDependencies=no
After=local-fs.target network-pre.target
Before=network.target network-online.target ssh.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-host

[Install]
WantedBy=sysinit.target
""",
    ),
    (
        "usr/local/sbin/lab-host",
        0o755,
        """\
#!/bin/sh
set -eu
for word in $(cat /proc/cmdline); do
    value=${word#*=}
    case $word in
    lab.addresses=*)
        ip link set eth0 up
        for address in $(echo "$value" | tr , ' '); do
            ip address replace "$address" dev eth0 nodad
        done
        ;;
    lab.key=*)
        mkdir -p -m 0700 /root/.ssh
        echo "$value" | base64 -d >/root/.ssh/authorized_keys
        ;;
    esac
done
key=/etc/ssh/ssh_host_ed25519_key
[ -f "$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$key"
""",
    ),
)


def stage_files(staging: Path) -> None:
    """Lay `FILES` and the units' links out below `staging`."""
    for name, mode, content in FILES:
        path = staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    units = staging / "etc/systemd/system"
    for unit in MASKED_UNITS:
        (units / unit).symlink_to("/dev/null")
    (units / "sysinit.target.wants").mkdir()
    (units / "sysinit.target.wants/lab-host.service").symlink_to("../lab-host.service")


def forget_builder(root: Path) -> None:
    """Remove what each machine gets of its own, and what is true of this machine only."""
    for name in ("etc/hostname", "etc/resolv.conf", *map(str, root.glob("etc/ssh/ssh_host_*"))):
        (root / name).unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")


def only_file(root: Path, pattern: str) -> Path:
    """The one file of /boot that matches. Raises RuntimeError if there is not exactly one."""
    found = list((root / "boot").glob(pattern))
    if len(found) != 1:
        raise RuntimeError(f"the packages bring {len(found)} files /boot/{pattern}, not one")
    return found[0]


def debootstrap(module: AnsibleModule, root: Path, staging: Path) -> None:
    """Install the release and the packages below `root`, or fail the task."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase"]
    command += [f"--include={','.join(module.params['packages'])}"]
    command += [f"--dpkgopt=path-exclude={excluded}" for excluded in EXCLUDED_PATHS]
    command += [f"--essential-hook=sync-in {staging} /"]
    command += [module.params["suite"], str(root), module.params["mirror"]]
    status, _output, errors = module.run_command(command)
    if status:
        module.fail_json(
            msg=f"mmdebstrap could not build {module.params['suite']} from "
            f"{module.params['mirror']}: check the mirror and the packages' names.\n{errors}"
        )


def build(module: AnsibleModule, path: Path) -> None:
    """Build the image at `path`, which appears only when it is complete."""
    work = path.with_name(path.name + ".unfinished")
    root, staging, image = work / "root", work / "files", work / "image"
    shutil.rmtree(work, ignore_errors=True)
    for directory in (staging, image):
        directory.mkdir(parents=True)
    try:
        stage_files(staging)
        debootstrap(module, root, staging)
        forget_builder(root)
        try:
            shutil.copy(only_file(root, "vmlinuz-*"), image / "vmlinuz")
            shutil.copy(only_file(root, "initrd.img-*"), image / "initrd.img")
        except RuntimeError as error:
            module.fail_json(msg=f"{error}: name one kernel, such as linux-image-cloud-amd64.")
        disk = image / "disk.img"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", str(root), str(disk)]
        module.run_command(command, check_rc=True)
        image.rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
            DISK_BYTES,
            MASKED_UNITS,
            EXCLUDED_PATHS,
            FILES,
        ]
    )
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    path = nspawn.CACHE / f"vm-{module.params['suite']}-{digest}"
    if module.check_mode:
        module.exit_json(changed=not path.exists(), path=str(path))
    nspawn.CACHE.mkdir(parents=True, exist_ok=True)
    with (nspawn.CACHE / "lock-vm").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another lab may want the same one now
        changed = not path.exists()
        if changed:
            build(module, path)
    module.exit_json(changed=changed, path=str(path))


if __name__ == "__main__":
    main()
