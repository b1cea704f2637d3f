#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell from real traffic whether a change to the host has done the mesh good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gate
short_description: Tell from real traffic whether a change to a host was good
version_added: 1.0.0
description:
  - Reaches peers as M(brine.mesh.verify) does. Packets of each must have been decrypted meanwhile, none
    may have failed to be, and with every peer that was heard of lately there must be an association
    that was made with the identity that the host uses now.
  - With O(answered), peers that did not answer before the change are not held against the host.
  - It does not fail for what it finds, so that a play can collect the findings of
    every host in one report with M(brine.mesh.report).
author: The brine authors (@brine)
extends_documentation_fragment:
  - brine.mesh.host
options:
  peers:
    description: How many peers to reach. With O(answered), those are reached, however many.
    type: int
    default: 4
  seconds:
    description: How long to wait for them, and for the associations.
    type: int
    default: 30
  answered:
    description:
      - Names of the peers that answered before the change, as M(brine.mesh.verify) told then. These are
        asked, and all must answer.
      - If the list is empty, nobody did. Then O(peers) are asked, and one must answer, if there are any.
      - Without it, O(peers) are asked, and all must answer.
    type: list
    elements: str
attributes:
  check_mode:
    description: Skips. What is about to change cannot be proved yet.
    support: none
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Look whether the host is well
  brine.mesh.gate:
  register: gate

- name: Look whether those still answer who did before
  brine.mesh.gate:
    answered: "{{ before.reached | map(attribute='peer') }}"
  register: gate

- name: Report
  brine.mesh.report:
    title: gate
    results: gate
  run_once: true
"""

RETURN = r"""
findings:
  description: What is amiss, as M(brine.mesh.preflight) returns it. Empty if nothing is.
  returned: when not skipped
  type: list
  elements: dict
reached:
  description: The peers that answered, as M(brine.mesh.verify) returns them.
  returned: when not skipped
  type: list
  elements: dict
figures:
  description: How many packets were opened meanwhile, and how many failed, by reason.
  returned: when not skipped
  type: dict
  sample: {opened: 12, failures: {}}
logs:
  description: The end of the journal of brine's units, if a finding is fatal. It holds no secret.
  returned: when a finding is fatal
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils.brine_cli import BrineCli, argument_spec


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **argument_spec(),
            "peers": {"type": "int", "default": 4},
            "seconds": {"type": "int", "default": 30},
            "answered": {"type": "list", "elements": "str"},
        },
        supports_check_mode=False,
    )
    peers, seconds = str(module.params["peers"]), str(module.params["seconds"])
    more = []
    if module.params["answered"] is not None:
        more = [f"--answered={','.join(module.params['answered'])}"]
    answer = BrineCli(module).ask("gate", "--peers", peers, "--seconds", seconds, *more)
    result = {name: answer[name] for name in ("findings", "reached", "figures")}
    if answer.get("logs"):
        result["logs"] = answer["logs"]
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
