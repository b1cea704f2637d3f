#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove that a host reaches its peers through the mesh."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Prove that a host reaches its peers through the mesh
version_added: 1.0.0
description:
  - Sends real echo requests to peers through brine0, and looks at the data path, the
    associations and the daemon.
  - It does not fail for what it finds, so that a play can collect the findings of
    every host in one report with M(brine.mesh.report).
author: The brine authors (@brine)
extends_documentation_fragment:
  - brine.mesh.host
options:
  peers:
    description: How many peers to reach.
    type: int
    default: 4
  seconds:
    description: How long to wait for them.
    type: int
    default: 15
attributes:
  check_mode:
    description: Skips. What is about to change cannot be proved yet.
    support: none
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Reach the peers
  brine.mesh.verify:
  register: result

- name: Report
  brine.mesh.report:
    title: verify
    results: result
  run_once: true
"""

RETURN = r"""
findings:
  description:
    - What is amiss, as M(brine.mesh.preflight) returns it. Empty if nothing is.
    - Where a peer does not answer, C(peer) is its name.
  returned: when not skipped
  type: list
  elements: dict
reached:
  description: The peers that answered.
  returned: when not skipped
  type: list
  elements: dict
  contains:
    peer:
      description: Name of the peer.
      type: str
    rtt_ms:
      description: Round-trip time through the mesh, in milliseconds.
      type: float
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
            "seconds": {"type": "int", "default": 15},
        },
        supports_check_mode=False,
    )
    peers, seconds = str(module.params["peers"]), str(module.params["seconds"])
    answer = BrineCli(module).ask("verify", "--peers", peers, "--seconds", seconds)
    result = {"findings": answer["findings"], "reached": answer.get("reached", [])}
    if answer.get("logs"):
        result["logs"] = answer["logs"]
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
