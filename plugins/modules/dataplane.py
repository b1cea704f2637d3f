#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the host's data path what its configuration says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dataplane
short_description: Create brine0, load the BPF programs and attach them
version_added: 1.0.0
description:
  - Makes the device pair, the pinned maps and the attached programs what
    C(/etc/brine/config.json) says.
  - A program that is already attached is replaced atomically; associations live on.
author: The brine authors (@brine)
extends_documentation_fragment:
  - brine.mesh.host
options:
  state:
    description:
      - V(absent) takes away the device pair, the programs, the maps with all associations, and the
        routes that keep the mesh's networks off every other interface.
      - V(reached) says that the host has been reached since, and calls off what O(lifeline) set up.
        It is due after every task with O(lifeline) that has failed or returned RV(armed=true).
    type: str
    choices: [absent, present, reached]
    default: present
  lifeline:
    description:
      - So many seconds after a change the receiving program is taken off the interface again, unless
        O(state=reached) comes before that. Should the change have cut the host off, it comes back.
      - The time begins anew if an earlier play has set this up and ended before V(reached), also where
        nothing is to be changed any more.
      - V(0) for never.
    type: int
    default: 0
  pending:
    description:
      - Whether the configuration or the object on the host is about to change.
      - Only check mode reads it, where the change has not been made and could not be seen.
    type: bool
    default: false
attributes:
  check_mode:
    description: Predicts what would be created, replaced or attached.
    support: full
  diff_mode:
    description: Shows the state of device and programs.
    support: full
"""

EXAMPLES = r"""
- name: Apply the data path
  brine.mesh.dataplane:
  register: dataplane

- name: Take it away
  brine.mesh.dataplane:
    state: absent
"""

RETURN = r"""
armed:
  description: Whether O(lifeline) is under way, so that O(state=reached) is due.
  returned: O(state=present)
  type: bool
xdp_mode:
  description: How C(open) is attached to the underlay interface. Null if it is yet to be attached (check mode).
  returned: O(state=present)
  type: str
  sample: native
mtu:
  description: The MTU of brine0. Null if it is yet to be created (check mode).
  returned: O(state=present)
  type: int
  sample: 1420
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils.brine_cli import (
    BrineCli,
    argument_spec,
    diff_of,
)

HEADER = "data path"
LIFELINE = "brine-lifeline"


def remove(module: AnsibleModule, brine: BrineCli) -> None:
    if not module.check_mode:
        call_off(module)
    if not brine.installed:  # so there is nothing that it could have made
        module.exit_json(changed=False)
    answer = brine.change("dataplane", "remove")
    module.exit_json(changed=answer["changed"], diff=diff_of(module, answer, HEADER))


def set_up(module: AnsibleModule, brine: BrineCli, seconds: int) -> None:
    """Have systemd take the program off, whatever becomes of this connection."""
    command = ["systemd-run", "--quiet", f"--unit={LIFELINE}", f"--on-active={seconds}"]
    command += ["--timer-property=AccuracySec=1s"]
    module.run_command([*command, brine.executable, "dataplane", "detach"], check_rc=True)


def is_armed(module: AnsibleModule) -> bool:
    """Whether a play, this one or an earlier one, has set it up and not called it off."""
    units = [f"{LIFELINE}.timer", f"{LIFELINE}.service"]  # the service: it is at it
    return bool(module.run_command(["systemctl", "is-active", "--quiet", *units])[0] == 0)


def call_off(module: AnsibleModule) -> None:
    """It may not be there, or have done its work. Once this returns it takes nothing off any more."""
    module.run_command(["systemctl", "stop", f"{LIFELINE}.timer", f"{LIFELINE}.service"])
    module.run_command(["systemctl", "reset-failed", f"{LIFELINE}.service"])


def arm(module: AnsibleModule, brine: BrineCli, seconds: int) -> bool:
    """Before a change; whether there is something to call off. One of an earlier play, which was
    killed, begins anew: called off here it would be by a connection that may have been open then,
    left alone it could take the program off just before it is called off."""
    before = is_armed(module)
    due = seconds > 0 and (before or brine.ask("dataplane", "apply", "--check")["changed"])
    if before or due:
        call_off(module)
    if due:
        set_up(module, brine, seconds)
    return due


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **argument_spec(),
            "state": {
                "type": "str",
                "choices": ["absent", "present", "reached"],
                "default": "present",
            },
            "lifeline": {"type": "int", "default": 0},
            "pending": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    brine = BrineCli(module)
    if module.params["state"] == "absent":
        remove(module, brine)
    if module.check_mode and (module.params["pending"] or not brine.installed):
        module.exit_json(
            changed=True,
            armed=False,
            xdp_mode=None,
            mtu=None,
            diff=diff_of(
                module,
                {
                    "changed": True,
                    "diff": {"after": "as the new configuration and object say"},
                },
                HEADER,
            ),
        )
    if module.params["state"] == "reached":
        if not module.check_mode:
            call_off(module)
        module.exit_json(changed=False)
    armed = not module.check_mode and arm(module, brine, module.params["lifeline"])
    answer = brine.change("dataplane", "apply")
    module.exit_json(
        changed=answer["changed"],
        armed=armed,
        xdp_mode=answer.get("xdp_mode"),
        mtu=answer.get("mtu"),
        diff=diff_of(module, answer, HEADER),
    )


if __name__ == "__main__":
    main()
