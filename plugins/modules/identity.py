#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a host its identity key pair."""

from __future__ import annotations

DOCUMENTATION = r"""
module: identity
short_description: Give a host its identity key pair
version_added: 1.0.0
description:
  - Makes the host's long-lived Curve25519 key pair if there is none.
  - The pair is made on the host and the private key never leaves it.
    An existing identity is never replaced.
author: The brine authors (@brine)
extends_documentation_fragment:
  - brine.mesh.host
attributes:
  check_mode:
    description: Predicts whether a key pair would be made.
    support: full
  diff_mode:
    description: Shows the public key.
    support: full
"""

EXAMPLES = r"""
- name: Make the identity
  brine.mesh.identity:
  register: identity
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


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    brine = BrineCli(module)
    if module.check_mode and not brine.installed:
        module.exit_json(
            changed=True,
            public_key=None,
            key_id=None,
            address=None,
            diff=diff_of(
                {"diff": {"after": "a new key pair, made on the host"}},
                HEADER,
            ),
        )
    answer = brine.change("identity", "ensure")
    module.exit_json(
        changed=answer["changed"],
        public_key=answer.get("public_key"),
        key_id=answer.get("key_id"),
        address=answer.get("address"),
        diff=diff_of(answer, HEADER),
    )


if __name__ == "__main__":
    main()
