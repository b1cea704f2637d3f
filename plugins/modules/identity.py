#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give a host its identity key pair."""

from __future__ import annotations

DOCUMENTATION = r"""
module: identity
short_description: Give a host its identity key pair
version_added: 1.0.0
description:
  - Makes the host's long-lived Curve25519 key pair if there is none.
  - The pair is made on the host and the private key never leaves it.
    An existing identity is never replaced but by a rotation.
  - A rotation goes from V(staged) over V(flipped) to V(retired). The roster must have reached every
    host before each of the last two; what would go ahead of the host's own roster is refused.
author: The brine authors (@brine)
extends_documentation_fragment:
  - brine.mesh.host
options:
  state:
    description:
      - V(present) makes the key pair if there is none.
      - V(staged) makes the next key pair, which the host then accepts too. On a host that is past that, nothing is done.
      - V(flipped) has the host use the next key pair. It goes on accepting the former one.
      - V(retired) takes away the former key pair, for good.
      - V(unflipped) and V(unstaged) take the first two steps back.
    type: str
    choices: [flipped, present, retired, staged, unflipped, unstaged]
    default: present
attributes:
  check_mode:
    description: Predicts whether a key pair would be made, used or taken away.
    support: full
  diff_mode:
    description: Shows the public key.
    support: full
"""

EXAMPLES = r"""
- name: Make the identity
  brine.mesh.identity:
  register: identity

- name: Use the next one
  brine.mesh.identity:
    state: flipped
"""

RETURN = r"""
public_key:
  description: The public key, base64. Null if it is yet to be made (check mode).
  returned: always
  type: str
  sample: 5sPk0qZk1mYvU2pYyyR8zqk2Ibn2kTPU1c0tLx1l3jY=
key_id:
  description: A short name of the public key, BLAKE2b-64 in hexadecimal. Null like the public key.
  returned: always
  type: str
  sample: 0b5e6c63fcb7d1a4
state:
  description:
    - V(single) with one key pair, V(staged) with one that is to follow, V(flipped) with one that it has followed.
    - Null like the public key.
  returned: always
  type: str
  sample: single
next_public_key:
  description: The public key that is to follow, base64. Null if there is none.
  returned: always
  type: str
previous_public_key:
  description: The public key that was in use before, and is still accepted, base64. Null if there is none.
  returned: always
  type: str
address:
  description: The overlay address derived from the public key. Null like the public key.
  returned: always
  type: str
  sample: fd62:7269:6e65:8f3c:1d2e:3f40:5162:7384
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils.brine_cli import (
    BrineCli,
    argument_spec,
    diff_of,
)

HEADER = "identity"
STEPS = {
    "flipped": "flip",
    "present": "ensure",
    "retired": "retire",
    "staged": "stage",
    "unflipped": "unflip",
    "unstaged": "unstage",
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **argument_spec(),
            "state": {
                "type": "str",
                "choices": ["flipped", "present", "retired", "staged", "unflipped", "unstaged"],
                "default": "present",
            },
        },
        supports_check_mode=True,
    )
    brine = BrineCli(module)
    if module.check_mode and not brine.installed:
        module.exit_json(
            changed=True,
            public_key=None,
            key_id=None,
            address=None,
            state=None,
            next_public_key=None,
            previous_public_key=None,
            diff=diff_of(
                module,
                {"changed": True, "diff": {"after": "a new key pair, made on the host"}},
                HEADER,
            ),
        )
    answer = brine.change("identity", STEPS[module.params["state"]])
    module.exit_json(
        changed=answer["changed"],
        public_key=answer.get("public_key"),
        key_id=answer.get("key_id"),
        address=answer.get("address"),
        state=answer.get("state"),
        next_public_key=(answer.get("next") or {}).get("public_key"),
        previous_public_key=(answer.get("previous") or {}).get("public_key"),
        diff=diff_of(module, answer, HEADER),
    )


if __name__ == "__main__":
    main()
