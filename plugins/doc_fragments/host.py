# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation shared by the modules that ask brine on a host."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  executable:
    description: The C(brine) command on the host.
    type: path
    default: /opt/brine/venv/bin/brine
requirements:
  - brine on the host, as the role P(brine.mesh.package#role) installs it
attributes:
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
"""

    FACTS = r"""
attributes:
  check_mode:
    description: The module never changes anything.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

    CONTROLLER = r"""
attributes:
  platform:
    description: Where the work is done.
    support: full
    platforms: posix
    details: On the controller; no host is contacted.
"""
