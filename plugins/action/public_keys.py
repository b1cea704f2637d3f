# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a host's public keys into the store, or take them out, on the controller."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.brine.mesh.plugins.plugin_utils.store import Store, describe


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True
    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            argument_spec={
                "store": {"type": "path", "required": True},
                "state": {
                    "type": "str",
                    "choices": ["absent", "present", "pruned", "removed"],
                    "default": "present",
                },
                "hosts": {"type": "list", "elements": "str", "default": []},
                "public_key": {"type": "str"},
                "next_public_key": {"type": "str"},
                "previous_public_key": {"type": "str"},
            }
        )
        store = Store(arguments["store"])
        hosts = [str(host) for host in arguments["hosts"]]
        changes = {}
        if arguments["state"] == "pruned":
            changes = store.prune(hosts)
        for host in hosts:
            if arguments["state"] == "present" and arguments["public_key"]:
                keys = {
                    "current": arguments["public_key"],
                    "next": arguments["next_public_key"],
                    "previous": arguments["previous_public_key"],
                }
                changes.update(store.put(host, keys))
            elif arguments["state"] == "absent":
                changes.update(store.take(host))
            elif arguments["state"] == "removed":
                changes.update(store.remove(host))
        result.update(changed=bool(changes), diff=describe(changes))
        if arguments["state"] == "removed":
            result["removed"] = sorted(store.removed(hosts))
        if not self._task.check_mode:
            store.write(changes)
        return result
