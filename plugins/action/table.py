# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the mesh as a table, from what earlier tasks registered on the hosts."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.brine.mesh.plugins.plugin_utils import table


class ActionModule(ActionBase):
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            argument_spec={
                "status": {"type": "str", "required": True},
                "reached": {"type": "str"},
                "notes": {"type": "list", "elements": "str", "default": []},
                "path": {"type": "path"},
            }
        )
        hostvars = task_vars["hostvars"]
        hosts = sorted(str(host) for host in task_vars["ansible_play_hosts_all"])

        def registered(host: str, variable: str | None, field: str) -> t.Any:
            return (hostvars[host].get(variable) or {}).get(field) if variable else None

        statuses = {host: registered(host, arguments["status"], "status") for host in hosts}
        lines = table.summary(statuses)
        if arguments["reached"]:
            reached = {
                host: {
                    str(entry["peer"]): float(entry["rtt_ms"])
                    for entry in registered(host, arguments["reached"], "reached") or []
                }
                for host in hosts
            }
            lines += ["", *table.matrix(statuses, reached), "", table.outcome(statuses, reached)]
        lines += map(str, arguments["notes"])
        text = "\n".join(["", *(f"  {line}".rstrip() for line in lines)])
        if arguments["path"]:
            Path(arguments["path"]).write_text(f"{text}\n", encoding="utf-8")
        else:
            Display().display(text)
        result.update(changed=False, lines=lines)
        return result
