#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: one host of a lab, as a virtual machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_host
short_description: Run a lab host as a virtual machine
version_added: 1.0.0
description:
  - The host boots its release's own kernel in QEMU, with one virtio interface C(eth0) on the bridge
    that M(brine.mesh.nspawn_lab) makes. It has two queues for each processor, so that its driver can
    run XDP programs without locks.
  - KVM is used where it really boots a guest, which is tried; else the processor is emulated,
    several times slower.
  - It is reached by ssh from inside the bridge's network namespace, at its link-local address, with
    the configuration that M(brine.mesh.nspawn_lab) makes. No address or port of this machine is used.
  - A host that is there but powered off is booted. One that was made from other options is made anew.
options:
  lab:
    description: Name of the lab.
    type: str
    required: true
  name:
    description:
      - Name of the host, 1 to 15 lower-case letters, digits and inner hyphens.
    type: str
    required: true
  state:
    description:
      - V(absent) pulls the plug and removes the host's disk.
    type: str
    choices: [absent, present]
    default: present
  image:
    description:
      - Directory of the disk image and kernel that it starts from, from M(brine.mesh.qemu_image).
      - Required if O(state=present).
    type: path
  authorized_key:
    description:
      - Public ssh key that opens the host for root.
      - Required if O(state=present).
    type: str
  addresses:
    description: Addresses of its interface, with prefix lengths.
    type: list
    elements: str
    default: []
  cpus:
    description: How many processors it has.
    type: int
    default: 1
  memory:
    description: How much memory it has, in MiB.
    type: int
    default: 400
  accelerator:
    description: What runs its instructions. V(auto) is V(kvm) where that works.
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  lifetime:
    description:
      - Seconds after which the plug is pulled, so that no test leaves a machine running.
      - By default it runs until somebody stops it.
    type: int
    default: 0
  boot_timeout:
    description:
      - Seconds it may take to boot. Half a minute is usual for an emulated processor; it takes many
        times that on a machine that is busy, where it comes last.
    type: int
    default: 900
requirements:
  - root on an x86_64 machine with qemu-system-x86_64, qemu-img, iproute2, nc and /dev/net/tun
attributes:
  check_mode:
    description: Predicts without changing.
    support: full
  diff_mode:
    description: Shows the options that differ from those the host was made from.
    support: full
seealso:
  - module: brine.mesh.qemu_image
  - module: brine.mesh.nspawn_lab
author:
  - The brine authors (@brine)
"""

EXAMPLES = r"""
- name: Run the machine
  brine.mesh.qemu_host:
    lab: vm
    name: "{{ inventory_hostname }}"
    image: "{{ image.path }}"
    authorized_key: "{{ lab.public_key }}"
    addresses: [198.51.100.12/24, "2001:db8::12/64"]
  delegate_to: localhost

# Its inventory then has:
#   ansible_user: root
#   ansible_ssh_common_args: -F /var/lib/brine-lab/vm/ssh_config
"""

RETURN = r"""
accelerator:
  description: What runs the host's instructions, V(kvm) or V(tcg), if the task has started it.
  returned: O(state=present)
  type: str
"""

import base64
import json
import shutil
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import nspawn, qemu

NICENESS = "10"  # nobody waits for a machine more than for this one
# QEMU's own default is a cache of a quarter of the memory of this machine, for each.
TCG = "tcg,tb-size=128"
# Five levels of page tables and nested guests only cost time.
EMULATED_CPU = "max,la57=off,svm=off"


def wanted_spec(machine: qemu.Machine, parameters: dict[str, t.Any]) -> dict[str, t.Any]:
    """What a change of makes the machine anew."""
    kept = ("image", "authorized_key", "addresses", "cpus", "memory", "accelerator", "lifetime")
    return {"name": machine.name, **{name: parameters[name] for name in kept}}


def command_line(machine: qemu.Machine, spec: dict[str, t.Any]) -> str:
    """The kernel's command line; /usr/local/sbin/lab-host in the image reads it."""
    key = base64.b64encode(spec["authorized_key"].encode() + b"\n").decode()
    return " ".join(
        [
            "console=ttyS0 root=/dev/vda rw net.ifnames=0 systemd.show_status=false",
            f"systemd.hostname={machine.name}",
            f"lab.key={key}",
            f"lab.addresses={','.join(spec['addresses'])}",
        ]
    )


def qemu_command(
    machine: qemu.Machine, spec: dict[str, t.Any], accelerator: str, queues: list[int]
) -> list[str]:
    """QEMU with its options, one piece of hardware a line."""
    image = Path(spec["image"])
    mac = machine.mac.hex(":")
    is_kvm = accelerator == "kvm"
    return [
        *(qemu.QEMU, "-name", machine.unit, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-accel", "kvm" if is_kvm else TCG, "-cpu", "host" if is_kvm else EMULATED_CPU),
        *("-smp", str(spec["cpus"]), "-m", str(spec["memory"])),
        *("-chardev", f"file,id=console,path={machine.console},append=on"),
        *("-serial", "chardev:console"),
        # The disk need not outlive a crash of this machine: no flushes.
        *("-drive", f"if=none,id=disk,file={machine.disk},format=qcow2,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-netdev", f"tap,id=underlay,fds={':'.join(map(str, queues))}"),
        *("-device", f"virtio-net-pci,netdev=underlay,mac={mac},mq=on,romfile="),
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img")),
        *("-append", command_line(machine, spec)),
    ]


def make_disk(module: AnsibleModule, machine: qemu.Machine, spec: dict[str, t.Any]) -> None:
    """Make the machine's disk: nothing but what differs from the image."""
    machine.directory.mkdir(parents=True)
    image = Path(spec["image"]) / "disk.img"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "raw"]
    module.run_command([*command, str(machine.disk)], check_rc=True)
    machine.ssh_config.write_text(machine.ssh_config_text())
    machine.write_spec(spec)


def plug_in(module: AnsibleModule, machine: qemu.Machine, queues: int) -> list[int]:
    """A port on the lab's bridge, as QEMU takes it."""
    namespace = nspawn.network_namespace(machine.lab)
    try:
        opened = qemu.open_tap(namespace, machine.name, queues)
    except OSError as error:
        module.fail_json(
            msg=f"{machine.name} gets no interface on the lab's bridge: {error}. It takes "
            f"/dev/net/tun (modprobe tun) and the namespace {namespace} (nspawn_lab)."
        )
    command = ["ip", "-n", namespace, "link", "set", machine.name, "master", nspawn.BRIDGE, "up"]
    module.run_command(command, check_rc=True)
    return opened


def start(module: AnsibleModule, machine: qemu.Machine, spec: dict[str, t.Any]) -> str:
    """Start QEMU, which outlives this module. Returns the accelerator."""
    accelerator = str(spec["accelerator"])
    if accelerator == "auto":
        accelerator = qemu.accelerator(Path(spec["image"]) / "vmlinuz")
    machine.runtime.mkdir(parents=True, exist_ok=True)
    lock = qemu.take_lock(machine)
    queues = plug_in(module, machine, 2 * spec["cpus"])
    command = ["nice", "-n", NICENESS, "timeout", str(spec["lifetime"])]
    command += qemu_command(machine, spec, accelerator, queues)
    with qemu.closing_descriptors([lock, *queues]):
        qemu.write_pid(lock, machine.start(command, [lock, *queues]))
    return accelerator


def remove(machine: qemu.Machine) -> None:
    """Stop the machine and remove its disk."""
    machine.stop()
    for directory in (machine.directory, machine.runtime):
        if directory.exists():
            shutil.rmtree(directory)


def diff(before: dict[str, t.Any] | None, after: dict[str, t.Any] | None) -> dict[str, t.Any]:
    """The specifications before and after, for --diff."""
    before_text, after_text = (
        json.dumps(spec, indent=2, sort_keys=True) + "\n" if spec else ""
        for spec in (before, after)
    )
    return {"before": before_text, "after": after_text}


def present(module: AnsibleModule, machine: qemu.Machine) -> dict[str, t.Any]:
    """Make and boot the machine; returns the task's result."""
    found, wanted = machine.spec(), wanted_spec(machine, module.params)
    running = machine.supervisor_pid() is not None
    result = {"changed": found != wanted or not running, "diff": diff(found, wanted)}
    if not module.check_mode:
        if found != wanted:
            remove(machine)
            make_disk(module, machine, wanted)
            running = False
        if not running:
            result["accelerator"] = start(module, machine, wanted)
        try:
            machine.wait_until_answers(module.params["boot_timeout"])
        except RuntimeError as error:
            module.fail_json(msg=str(error), console=machine.console_tail())
    return result


def absent(module: AnsibleModule, machine: qemu.Machine) -> dict[str, t.Any]:
    """Remove the machine; returns the task's result."""
    changed = machine.directory.exists() or machine.runtime.exists()
    result = {"changed": changed, "diff": diff(machine.spec(), None)}
    if not module.check_mode:
        remove(machine)
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "image": {"type": "path"},
            "authorized_key": {"type": "str", "no_log": False},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "cpus": {"type": "int", "default": 1},
            "memory": {"type": "int", "default": 400},
            "accelerator": {"type": "str", "choices": ["auto", "kvm", "tcg"], "default": "auto"},
            "lifetime": {"type": "int", "default": 0},
            "boot_timeout": {"type": "int", "default": 900},
        },
        required_if=[("state", "present", ("image", "authorized_key"))],
        supports_check_mode=True,
    )
    for parameter in ("lab", "name"):
        nspawn.check_name(module, parameter, module.params[parameter])
    machine = qemu.Machine(module.params["lab"], module.params["name"])
    result = {"absent": absent, "present": present}[module.params["state"]](module, machine)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
