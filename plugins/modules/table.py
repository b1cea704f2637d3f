#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: table
short_description: Show the mesh as a table
version_added: 1.0.0
description:
  - Prints a row for every host of the play, from what M(brine.mesh.mesh_info) returned on each.
  - With O(reached) also host × host, the round trip through the mesh and the age of the association.
    Meant for a mesh that fits a screen.
  - Run it once in a play.
author: The brine authors (@brine)
options:
  status:
    description: The variable that M(brine.mesh.mesh_info) registered on every host.
    type: str
    required: true
  reached:
    description: The variable that M(brine.mesh.verify) registered on every host.
    type: str
  notes:
    description: Lines to add at the end.
    type: list
    elements: str
    default: []
  path:
    description: A file on the controller to write the lines to, instead of showing them.
    type: path
extends_documentation_fragment:
  - brine.mesh.host.controller
  - brine.mesh.host.facts
"""

EXAMPLES = r"""
- name: Ask the host
  brine.mesh.mesh_info:
  register: mesh

- name: Show it
  brine.mesh.table:
    status: mesh
  run_once: true
"""

RETURN = r"""
lines:
  description: The lines of the table.
  returned: always
  type: list
  elements: str
"""
