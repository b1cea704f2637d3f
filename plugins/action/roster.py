# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the mesh's members and render the roster, on the controller."""

from __future__ import annotations

import hashlib
import os
import tempfile
import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase

from ansible_collections.brine.mesh.plugins.plugin_utils.departures import check_store
from ansible_collections.brine.mesh.plugins.plugin_utils.external import external_members
from ansible_collections.brine.mesh.plugins.plugin_utils.members import (
    Member,
    MemberReader,
    check_members,
    render_roster,
)


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
                "group": {"type": "str", "default": "brine"},
                "store": {"type": "path", "required": True},
                "cache": {"type": "path", "required": True},
                "made_now": {"type": "list", "elements": "str", "default": []},
                "removed": {"type": "list", "elements": "str", "default": []},
                "removal_percent": {"type": "int", "default": 10},
                "confirm_removal": {"type": "bool", "default": False},
            }
        )
        hosts = [str(host) for host in task_vars["groups"].get(arguments["group"], [])]
        reader = MemberReader(task_vars["hostvars"], arguments["store"])
        removed = reader.store.removed(arguments["removed"])
        managed = [reader.read(host) for host in hosts if host not in removed]
        members = [*managed, *external_members(reader, managed)]
        findings = [
            *reader.findings,
            *check_members(members, arguments["made_now"]),
            *check_store(
                reader.store,
                removed,
                hosts,
                members,
                arguments["made_now"],
                arguments["removal_percent"],
                arguments["confirm_removal"],
            ),
        ]
        result.update(changed=False, findings=findings, path=None)
        if not any(found["fatal"] for found in findings):
            result["path"] = str(write(members, Path(arguments["cache"])))
        return result


def write(members: list[Member], cache: Path) -> Path:
    """Put the roster into the cache under the hash of its content; return where."""
    text = render_roster(members).encode()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = cache / f"{hashlib.sha256(text).hexdigest()[:32]}.json"
    if not path.exists():
        descriptor, name = tempfile.mkstemp(dir=cache)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        os.replace(name, path)
    return path
