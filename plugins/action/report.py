# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect the findings of all hosts and stop with one report if any is fatal."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase


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
                "title": {"type": "str", "required": True},
                "results": {"type": "str"},
                "findings": {"type": "list", "elements": "dict", "default": []},
                "logs": {"type": "path"},
            }
        )
        findings: list[dict[str, t.Any]] = list(arguments["findings"])
        hosts = [str(host) for host in task_vars["ansible_play_hosts"]]
        for host in hosts if arguments["results"] else []:
            answer = task_vars["hostvars"][host].get(arguments["results"]) or {}
            found = [{"host": host, **entry} for entry in answer.get("findings", [])]
            findings += found
            if arguments["logs"] and answer.get("logs") and any(map(is_fatal, found)):
                save(Path(arguments["logs"]), host, str(answer["logs"]))
        fatal = [entry for entry in findings if is_fatal(entry)]
        result["changed"] = False
        result["warnings"] = [line(entry) for entry in findings if not is_fatal(entry)]
        if not fatal:
            result["findings"] = findings
        else:  # the message has them
            result["failed"] = True
            result["msg"] = text(arguments["title"], fatal, arguments["logs"])
        return result


def is_fatal(entry: dict[str, t.Any]) -> bool:
    return bool(entry.get("fatal", True))


def line(entry: dict[str, t.Any]) -> str:
    place = entry.get("host") or "inventory"
    return f"{place}: {entry['check']}: {entry['cause']}. Next: {entry['next_step']}."


def text(title: str, findings: list[dict[str, t.Any]], logs: str | None) -> str:
    """The report: a paragraph a host, in the order they were found."""
    places: dict[str, list[dict[str, t.Any]]] = {}
    for entry in findings:
        places.setdefault(entry.get("host") or "inventory", []).append(entry)
    count = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
    lines = [f"{title}: {count}"]
    for place, entries in places.items():
        lines += ["", f"  {place}"]
        for entry in entries:
            lines.append(f"    {entry['check']}: {entry['cause']}.")
            lines.append(f"      Next: {entry['next_step']}.")
    if logs:
        lines += ["", f"  Logs of these hosts are in {logs}"]
    return "\n".join(lines)


def save(directory: Path, host: str, logs: str) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / f"{host}.log").write_text(logs, encoding="utf-8")
