#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: public_keys
short_description: Keep the public-key store
version_added: 1.0.0
description:
  - The store is a directory beside the inventory. It holds every host's public key in C(HOST.txt),
    and while the key is being rotated the other one that is valid in C(HOST.next.txt) or C(HOST.previous.txt).
  - A host that was removed from the mesh leaves C(HOST.removed.txt), which keeps it out.
author: The brine authors (@brine)
options:
  store:
    description: The directory.
    type: path
    required: true
  state:
    description:
      - V(present) has the given keys of the host in the store, and no others. Without O(public_key) nothing is done.
      - V(absent) takes the hosts' keys out.
      - V(removed) does so too and notes that they were removed.
      - V(pruned) takes out the keys of all hosts but the given ones.
    type: str
    choices: [absent, present, pruned, removed]
    default: present
  hosts:
    description: Names of the hosts. One, if O(state=present).
    type: list
    elements: str
    default: []
  public_key:
    description: The key in use, base64. Null in check mode where it is yet to be made.
    type: str
  next_public_key:
    description: The key that is to follow it, base64.
    type: str
  previous_public_key:
    description: The key that it has followed, base64.
    type: str
attributes:
  check_mode:
    description: Predicts without changing.
    support: full
  diff_mode:
    description: Shows the files.
    support: full
  platform:
    description: Where the work is done.
    support: full
    platforms: posix
    details: On the controller; no host is contacted.
"""

EXAMPLES = r"""
- name: Make the key pair
  brine.mesh.identity:
  register: pair

- name: Put the public key into the store
  brine.mesh.public_keys:
    store: "{{ inventory_dir }}/public_keys"
    hosts: "{{ [inventory_hostname] }}"
    public_key: "{{ pair.public_key }}"
"""

RETURN = r"""
removed:
  description: All hosts that are noted as removed; in check mode with those that would be.
  returned: when O(state=removed)
  type: list
  elements: str
"""
