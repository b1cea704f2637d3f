#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: roster
short_description: Check the members of the mesh and render the roster
version_added: 1.0.0
description:
  - Reads the variables of every host of a group, also of hosts outside C(--limit), and the
    public-key store, and checks them together.
  - If nothing is wrong, renders the roster into a file on the controller. The same members
    always give the same bytes.
  - Hosts that were removed with M(brine.mesh.public_keys) are left out.
  - Run it once in a play. What it does is linear in the number of hosts.
  - It does not fail for what it finds, so that M(brine.mesh.report) can report it together
    with what was found on the hosts.
author: The brine authors (@brine)
options:
  group:
    description: The inventory group whose hosts are the members.
    type: str
    default: brine
  store:
    description: The directory of the public keys, a file C(HOST.txt) each.
    type: path
    required: true
  cache:
    description: A directory on the controller for the rendered file, whose name is the hash of its content.
    type: path
    required: true
  made_now:
    description: Hosts that may lack a public key because this run makes it. Their entry holds null.
    type: list
    elements: str
    default: []
  removed:
    description:
      - Hosts to count as removed, whether O(store) has noted it or not. In check mode it has not yet
        noted what M(brine.mesh.public_keys) has predicted.
    type: list
    elements: str
    default: []
  removal_percent:
    description:
      - So many of the hosts that O(store) knows may leave the group at once; one always may.
        More are a finding, unless O(confirm_removal).
    type: int
    default: 10
  confirm_removal:
    description: Whether it is meant that so many hosts leave.
    type: bool
    default: false
extends_documentation_fragment:
  - brine.mesh.host.controller
attributes:
  check_mode:
    description: It does the same in check mode. The file is a cache of the controller's.
    support: full
  diff_mode:
    description: The task that copies the file to the hosts shows the difference.
    support: none
"""

EXAMPLES = r"""
- name: Render the roster
  brine.mesh.roster:
    store: "{{ inventory_dir }}/public_keys"
    cache: ~/.cache/brine/rosters
  register: roster
  run_once: true
"""

RETURN = r"""
path:
  description: The rendered file. Null if there are findings.
  returned: always
  type: str
findings:
  description: What is wrong, as M(brine.mesh.preflight) returns it, with the name of the host.
  returned: always
  type: list
  elements: dict
"""
