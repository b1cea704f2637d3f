#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reconcile the host's peers with the roster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: peers
short_description: Reconcile a host's peers with the roster
version_added: 1.0.0
description:
  - Adds, changes and removes peers in the BPF maps, and the addresses and routes of
    brine0, until they are what the roster says. Nothing is restarted.
author: The brine authors (@brine)
extends_documentation_fragment:
  - brine.mesh.host
options:
  roster:
    description: The roster on the host.
    type: path
    default: /etc/brine/roster.json
  proposed:
    description:
      - Text of the roster that is about to take the place of O(roster).
      - Only check mode reads it, where O(roster) has not been written and the prediction would be of the old one.
    type: str
  name:
    description:
      - The host's own name in the roster.
      - Only check mode reads it, on a host that has no identity yet to find itself by.
    type: str
attributes:
  check_mode:
    description: Predicts which peers would be added, changed and removed.
    support: full
  diff_mode:
    description: Shows the peers as the maps have them.
    support: full
"""

EXAMPLES = r"""
- name: Reconcile the peers
  brine.mesh.peers:
"""

RETURN = r"""
added:
  description: Names of the peers that were not in the maps.
  returned: always
  type: list
  elements: str
updated:
  description: Names of the peers that were there with another endpoint, address or prefix.
  returned: always
  type: list
  elements: str
removed:
  description: Names, or key ids, of the peers that are no longer in the roster.
  returned: always
  type: list
  elements: str
"""

import json
import os
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils.brine_cli import (
    BrineCli,
    argument_spec,
    diff_of,
)

HEADER = "peers"


def without_brine(proposed: str | None, name: str | None) -> dict[str, t.Any]:
    """What `brine peers apply` would say on a host that has no brine yet."""
    peers = json.loads(proposed)["peers"] if proposed else []
    names = sorted(peer["name"] for peer in peers if peer["name"] != name)
    return {
        "changed": True,
        "added": names,
        "diff": {"after": "".join(f"{name}\n" for name in names)},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **argument_spec(),
            "roster": {"type": "path", "default": "/etc/brine/roster.json"},
            "proposed": {"type": "str"},
            "name": {"type": "str"},
        },
        supports_check_mode=True,
    )
    brine = BrineCli(module)
    roster, proposed = module.params["roster"], module.params["proposed"]
    if not module.check_mode:
        answer = brine.change("peers", "apply", "--roster", roster)
    elif not brine.installed:
        answer = without_brine(proposed, module.params["name"])
    elif proposed:
        with tempfile.TemporaryDirectory(dir=module.tmpdir) as directory:
            path = os.path.join(directory, "roster.json")
            with open(path, "w", encoding="utf-8") as file:
                file.write(proposed)
            answer = brine.change("peers", "apply", "--roster", path)
    else:
        answer = brine.change("peers", "apply", "--roster", roster)
    module.exit_json(
        changed=answer["changed"],
        added=answer.get("added", []),
        updated=answer.get("updated", []),
        removed=answer.get("removed", []),
        diff=diff_of(module, answer, HEADER),
    )


if __name__ == "__main__":
    main()
