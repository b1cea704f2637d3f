#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what the hosts of a lab share."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_lab
short_description: Make or remove what the systemd-nspawn hosts of a lab share
version_added: 1.0.0
description:
  - Makes a bridge that stands for the underlay, the network that carries sealed packets between
    hosts. It lives in a network namespace of its own, C(brine-LAB), so that the machine's network
    is not touched.
  - Makes an ssh key that opens the hosts, and an ssh configuration that leads to them without any
    network, C(ssh -F /var/lib/brine-lab/LAB/ssh_config HOST).
  - Several labs of different names run side by side.
options:
  lab:
    description:
      - Name of the lab, 1 to 15 lower-case letters, digits and inner hyphens.
    type: str
    required: true
  state:
    description:
      - V(absent) removes everything that bears the lab's name. It refuses while hosts run.
    type: str
    choices: [absent, present]
    default: present
requirements:
  - root on a machine with iproute2 and ssh-keygen
attributes:
  check_mode:
    description: Predicts without changing.
    support: full
  diff_mode:
    description: Does not show differences.
    support: none
seealso:
  - module: brine.mesh.nspawn_image
  - module: brine.mesh.nspawn_host
author:
  - The brine authors (@brine)
"""

EXAMPLES = r"""
- name: Make the lab
  brine.mesh.nspawn_lab:
    lab: lab
  register: lab
"""

RETURN = r"""
namespace:
  description: Name of the network namespace that holds the bridge.
  returned: always
  type: str
  sample: brine-lab
ssh_config:
  description: The ssh configuration.
  returned: always
  type: str
  sample: /var/lib/brine-lab/lab/ssh_config
public_key:
  description: Its public half, empty if check mode found none.
  returned: O(state=present)
  type: str
"""

import contextlib
import json
import shutil
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import nspawn


class Underlay:
    """The bridge and its namespace."""

    def __init__(self, module: AnsibleModule, lab: str) -> None:
        self.module = module
        self.namespace = nspawn.network_namespace(lab)

    def ip(self, *arguments: str) -> str:
        """Run ip(8), or fail the task."""
        return str(self.module.run_command(["ip", *arguments], check_rc=True)[1])

    def exists(self) -> bool:
        """Whether the namespace is there."""
        namespaces = json.loads(self.ip("-json", "netns", "list") or "[]")
        return self.namespace in {entry["name"] for entry in namespaces}

    def links(self) -> dict[str, dict[str, t.Any]]:
        """The links inside, by name."""
        output = self.ip("-json", "-n", self.namespace, "link", "show")
        return {link["ifname"]: link for link in json.loads(output)}

    def is_complete(self) -> bool:
        """Whether the bridge is there and up."""
        if not self.exists():
            return False
        links = self.links()
        return all("UP" in links.get(link, {}).get("flags", []) for link in ("lo", nspawn.BRIDGE))

    def make(self) -> None:
        """Make what is missing."""
        if not self.exists():
            self.ip("netns", "add", self.namespace)
        if nspawn.BRIDGE not in self.links():
            # No spanning tree and no delay: a port forwards as soon as it is up.
            bridge = ["type", "bridge", "stp_state", "0", "forward_delay", "0"]
            bridge += ["mcast_snooping", "0"]
            self.ip("-n", self.namespace, "link", "add", nspawn.BRIDGE, *bridge)
        for link in ("lo", nspawn.BRIDGE):
            self.ip("-n", self.namespace, "link", "set", link, "up")

    def remove(self) -> None:
        """Remove the namespace, and with it every port."""
        self.ip("netns", "delete", self.namespace)


def present(module: AnsibleModule, lab: str) -> dict[str, t.Any]:
    """Make the lab; returns the task's result."""
    underlay, key = Underlay(module, lab), nspawn.ssh_key(lab)
    config, text = nspawn.ssh_config(lab), nspawn.ssh_config_text(lab)
    has_underlay, has_key = underlay.is_complete(), key.exists()
    has_config = config.exists() and config.read_text() == text
    if not module.check_mode:
        if not has_underlay:
            underlay.make()
        if not has_key:
            key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"brine lab {lab}"]
            module.run_command([*command, "-f", str(key)], check_rc=True)
        if not has_config:
            config.write_text(text)
    public = key.with_suffix(".pub")
    return {
        "changed": not (has_underlay and has_key and has_config),
        "public_key": public.read_text().strip() if public.exists() else "",
    }


def absent(module: AnsibleModule, lab: str) -> dict[str, t.Any]:
    """Remove the lab; returns the task's result."""
    running = nspawn.running_hosts(lab)
    if running and not module.check_mode:
        module.fail_json(
            msg=f"Lab {lab} still runs {', '.join(running)}: remove its hosts with nspawn_host first."
        )
    underlay = Underlay(module, lab)
    has_underlay = underlay.exists()
    left = [base / lab for base in (nspawn.STATE, nspawn.RUNTIME) if (base / lab).exists()]
    if not module.check_mode:
        if has_underlay:
            underlay.remove()
        for directory in left:
            shutil.rmtree(directory)
            with contextlib.suppress(OSError):  # another lab is still in it
                directory.parent.rmdir()
    return {"changed": has_underlay or bool(left)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
        },
        supports_check_mode=True,
    )
    lab = module.params["lab"]
    nspawn.check_name(module, "lab", lab)
    result = {"absent": absent, "present": present}[module.params["state"]](module, lab)
    module.exit_json(
        namespace=nspawn.network_namespace(lab),
        ssh_config=str(nspawn.ssh_config(lab)),
        **result,
    )


if __name__ == "__main__":
    main()
