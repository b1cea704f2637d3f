# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect the findings of all hosts and stop with one report if any is fatal."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.brine.mesh.plugins.plugin_utils.absence import Answers, attribute, names


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
                "absent": {"type": "str", "choices": ["fail", "warn"]},
                "logs": {"type": "path"},
            },
            required_by={"absent": ["results"]},
        )
        hosts = [str(host) for host in task_vars["ansible_play_hosts_all"]]
        in_play = [str(host) for host in task_vars["ansible_play_hosts"]]
        results = {
            host: (arguments["results"] and task_vars["hostvars"][host].get(arguments["results"]))
            or {}
            for host in (hosts if arguments["absent"] else in_play)
        }
        findings: list[dict[str, t.Any]] = [
            *arguments["findings"],
            *(
                {"host": host, **entry}
                for host in in_play
                for entry in results[host].get("findings", [])
            ),
        ]
        if arguments["absent"]:
            answers = Answers.of(hosts, in_play, results)
            findings = attribute(findings, answers, arguments["absent"] == "fail")
        fatal = [entry for entry in findings if is_fatal(entry)]
        amiss = {str(entry.get("host") or "") for entry in fatal}
        if arguments["logs"]:
            for host in amiss.intersection(in_play):
                if results[host].get("logs"):
                    save(Path(arguments["logs"]), host, str(results[host]["logs"]))
        result["changed"] = False
        result["warnings"] = [line(entry) for entry in findings if not is_fatal(entry)]
        report = text(arguments["title"], fatal, arguments["logs"])
        if arguments["absent"]:
            result["amiss"] = [host for host in in_play if host in amiss]
            if fatal:
                well = names(sorted(answers.answered - amiss)) or "none"
                Display().display(f"\n{report}\n\n  Well: {well}", color=constants.COLOR_ERROR)
        if not fatal:
            result["findings"] = findings
        elif not arguments["absent"]:  # the message has them
            result["failed"] = True
            result["msg"] = report
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
