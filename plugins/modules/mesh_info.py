#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read how a host sees the mesh."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_info
short_description: Read how a host sees the mesh
version_added: 1.0.0
description:
  - Returns what C(brine status) shows, for machines. It holds no secret.
author: The brine authors (@brine)
extends_documentation_fragment:
  - brine.mesh.host
  - brine.mesh.host.facts
"""

EXAMPLES = r"""
- name: Ask the host
  brine.mesh.mesh_info:
  register: mesh

- name: Say whom it has not heard
  ansible.builtin.debug:
    msg: "{{ mesh.status.peers | rejectattr('association') | map(attribute='name') }}"
"""

RETURN = r"""
status:
  description: The answer of C(brine status --json).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils.brine_cli import BrineCli, argument_spec


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    module.exit_json(changed=False, status=BrineCli(module).ask("status"))


if __name__ == "__main__":
    main()
