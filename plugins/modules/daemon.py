#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell whether the daemon that runs is the one that is installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: daemon
short_description: Tell whether the daemon that runs is the one that is installed
version_added: 1.0.0
description:
  - Compares the virtual environment and the unit that a running C(brined) was started from
    with those that are installed. They differ if a play was interrupted
    after it had replaced them, before it restarted the daemon.
author: The brine authors (@brine)
options:
  root:
    description: The directory that holds the environments and the link C(venv).
    type: path
    default: /opt/brine
  unit:
    description: The file of the unit.
    type: path
    default: /etc/systemd/system/brined.service
extends_documentation_fragment:
  - brine.mesh.host.facts
attributes:
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Look which daemon runs
  brine.mesh.daemon:
  register: brined

- name: Replace one that is no longer the installed one
  ansible.builtin.systemd_service:
    name: brined.service
    daemon_reload: true
    state: restarted
  when: brined.stale
"""

RETURN = r"""
running:
  description: Whether a daemon runs.
  returned: always
  type: bool
stale:
  description: Whether a daemon runs that is not the installed one.
  returned: always
  type: bool
environment:
  description: The virtual environment that the daemon was started from. Null if none runs.
  returned: always
  type: str
  sample: /opt/brine/venvs/0f343b0931126a20f133d67c2b018a3b
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import daemon


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/brine"},
            "unit": {"type": "path", "default": "/etc/systemd/system/brined.service"},
        },
        supports_check_mode=True,
    )
    root, unit = Path(module.params["root"]), Path(module.params["unit"])
    pid = daemon.main_pid(module)
    environment = daemon.environment(pid, root) if pid else None
    try:
        stale = pid != 0 and (
            environment != os.path.realpath(root / "venv")
            or daemon.unit(pid) != daemon.installed_unit(unit)
        )
    except PermissionError as error:
        module.fail_json(
            msg=f"The daemon's process cannot be looked into: {error}. Next: become root."
        )
    module.exit_json(changed=False, running=pid != 0, stale=stale, environment=environment)


if __name__ == "__main__":
    main()
