#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Report the findings of all hosts at once
version_added: 1.0.0
description:
  - Collects what an earlier task found on every host of the play, and fails with one
    message that names host, cause and next step of each if any finding is fatal.
  - Findings that are not fatal become warnings.
  - Run it once in a play.
author: The brine authors (@brine)
options:
  title:
    description: What was looked at, for the message.
    type: str
    required: true
  results:
    description: The variable that an earlier task registered on every host.
    type: str
  findings:
    description: Further findings, such as those of M(brine.mesh.roster).
    type: list
    elements: dict
    default: []
  absent:
    description:
      - How to take a host that answers neither Ansible nor any other host through the mesh. With it,
        O(results) are what M(brine.mesh.verify) returned, and each finding is told of the host that
        is to be mended, if several hosts have asked one that is down.
      - V(warn) has a member that is down be no reason to stop, as long as any other host answers. One that
        answers others, but not Ansible, always is.
      - The report is then shown, and the task does not fail, so that the play can stop on the hosts of
        RV(amiss), and on no host that is well.
    type: str
    choices: [fail, warn]
  logs:
    description: A directory on the controller for the logs that came with fatal findings, a file a host.
    type: path
extends_documentation_fragment:
  - brine.mesh.host.controller
  - brine.mesh.host.facts
"""

EXAMPLES = r"""
- name: Report
  brine.mesh.report:
    title: preflight
    results: probe
  run_once: true

- name: Report what is amiss on all hosts
  brine.mesh.report:
    title: The mesh does not work as it should
    results: verified
    absent: warn
  register: report
  run_once: true

- name: Stop where something is
  ansible.builtin.fail:
    msg: The report above says why
  when: inventory_hostname in report.amiss
"""

RETURN = r"""
findings:
  description: All findings, none of which is fatal.
  returned: success, and nothing is fatal
  type: list
  elements: dict
amiss:
  description: Hosts still in the play of which a finding is fatal.
  returned: with O(absent)
  type: list
  elements: str
"""
