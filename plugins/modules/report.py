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
"""

RETURN = r"""
findings:
  description: All findings, none of which is fatal.
  returned: success
  type: list
  elements: dict
"""
