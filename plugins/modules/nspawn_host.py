#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: one host of a lab."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_host
short_description: Run a lab host under systemd-nspawn
version_added: 1.0.0
description:
  - The host boots its own systemd in its own network namespace, with one interface on the bridge
    that M(brine.mesh.nspawn_lab) makes. It may load BPF programs. It reboots as a machine does,
    which empties the network namespace and every BPF file system.
  - It is reached by ssh without any network, with the configuration that M(brine.mesh.nspawn_lab) makes.
  - A host that is there but powered off is booted. One that was made from other options is made anew.
  - Works with systemd as init (the host is then a transient unit) and without, on pure and on hybrid
    control groups.
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
      - Root file system that the host's disk is laid over, from M(brine.mesh.nspawn_image).
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
  interface:
    description: Name of its interface.
    type: str
    default: eth0
  boot_timeout:
    description: Seconds it may take to boot.
    type: int
    default: 60
requirements:
  - root on a machine with systemd-nspawn, iproute2, ssh-keygen and OpenBSD's netcat
attributes:
  check_mode:
    description: Predicts without changing.
    support: full
  diff_mode:
    description: Shows the options that differ from those the host was made from.
    support: full
seealso:
  - module: brine.mesh.nspawn_image
  - module: brine.mesh.nspawn_lab
author:
  - The brine authors (@brine)
"""

EXAMPLES = r"""
- name: Run the host
  brine.mesh.nspawn_host:
    lab: lab
    name: "{{ inventory_hostname }}"
    image: "{{ image.path }}"
    authorized_key: "{{ lab.public_key }}"
    addresses: [198.51.100.11/24, "2001:db8::11/64"]
  delegate_to: localhost

# Its inventory then has:
#   ansible_ssh_args: -F /var/lib/brine-lab/lab/ssh_config
"""

RETURN = r"""
leader_file:
  description: File that holds the process id of the host's init while it runs.
  returned: always
  type: str
  sample: /run/brine-lab/lab/lab1/leader
leader:
  description: The process id, 0 if check mode found none.
  returned: O(state=present)
  type: int
"""

import inspect
import json
import shutil
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import nspawn, nspawn_supervisor


def wanted_spec(host: nspawn.Host, parameters: dict[str, t.Any]) -> dict[str, t.Any]:
    """What the supervisor has to know, and what a change of makes the host anew."""
    return {
        "name": host.name,
        "unit": host.unit,
        "runtime": str(host.runtime),
        "underlay": nspawn.network_namespace(host.lab),
        "bridge": nspawn.BRIDGE,
        "interface": parameters["interface"],
        "addresses": parameters["addresses"],
        "image": parameters["image"],
        "authorized_key": parameters["authorized_key"],
    }


def make_disk(module: AnsibleModule, host: nspawn.Host, spec: dict[str, t.Any]) -> None:
    """Make the host's disk with what tells it from its siblings."""
    for name in ("upper", "work", "root"):
        (host.directory / name).mkdir(parents=True)
    etc, ssh = host.upper / "etc", host.upper / "root/.ssh"
    (etc / "ssh").mkdir(parents=True)
    ssh.mkdir(parents=True)
    for private in (host.upper / "root", ssh):
        private.chmod(0o700)
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {host.name}\n")
    (ssh / "authorized_keys").write_text(spec["authorized_key"] + "\n")
    key = etc / "ssh/ssh_host_ed25519_key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key)]
    module.run_command(command, check_rc=True)
    host.supervisor.write_text(inspect.getsource(nspawn_supervisor))
    host.write_spec(spec)


def start(module: AnsibleModule, host: nspawn.Host) -> None:
    """Start the supervisor where it outlives this module."""
    host.runtime.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(host.supervisor), "run", str(host.directory)]
    if nspawn_supervisor.systemd_is_init():
        unit = ["systemd-run", "--quiet", "--collect", f"--unit={host.unit}"]
        unit += ["--property=Delegate=yes", "--property=KillMode=mixed"]
        # 133: the host asked for a reboot while it was being stopped.
        unit += ["--property=SuccessExitStatus=133 KILL"]
        unit += [f"--property=StandardOutput=append:{host.console}"]
        unit += [f"--property=StandardError=append:{host.console}"]
        module.run_command([*unit, *command], check_rc=True)
    else:
        host.start(command)
    host.wait_until_started()


def remove(host: nspawn.Host) -> None:
    """Stop the host and remove its disk."""
    host.stop()
    for directory in (host.directory, host.runtime):
        if directory.exists():
            shutil.rmtree(directory)


def diff(before: dict[str, t.Any] | None, after: dict[str, t.Any] | None) -> dict[str, t.Any]:
    """The specifications before and after, for --diff."""
    before_text, after_text = (
        json.dumps(spec, indent=2, sort_keys=True) + "\n" if spec else ""
        for spec in (before, after)
    )
    return {"before": before_text, "after": after_text}


def present(module: AnsibleModule, host: nspawn.Host) -> dict[str, t.Any]:
    """Make and boot the host; returns the task's result."""
    found, wanted = host.spec(), wanted_spec(host, module.params)
    running = host.supervisor_pid() is not None
    result = {
        "changed": found != wanted or not running,
        "diff": diff(found, wanted),
    }
    if not module.check_mode:
        if found != wanted:
            remove(host)
            make_disk(module, host, wanted)
            running = False
        if not running:
            start(module, host)
        try:
            host.wait_until_booted(module.params["boot_timeout"])
        except RuntimeError as error:
            module.fail_json(msg=str(error), console=host.console_tail())
    return {**result, "leader": host.leader() or 0}


def absent(module: AnsibleModule, host: nspawn.Host) -> dict[str, t.Any]:
    """Remove the host; returns the task's result."""
    changed = host.directory.exists() or host.runtime.exists()
    result = {"changed": changed, "diff": diff(host.spec(), None)}
    if not module.check_mode:
        remove(host)
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
            "interface": {"type": "str", "default": "eth0"},
            "boot_timeout": {"type": "int", "default": 60},
        },
        required_if=[("state", "present", ("image", "authorized_key"))],
        supports_check_mode=True,
    )
    for parameter in ("lab", "name"):
        nspawn.check_name(module, parameter, module.params[parameter])
    host = nspawn.Host(module.params["lab"], module.params["name"])
    result = {"absent": absent, "present": present}[module.params["state"]](module, host)
    module.exit_json(leader_file=str(host.runtime / "leader"), **result)


if __name__ == "__main__":
    main()
