# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the `brine` command on this host for a state, in JSON.

Modules run under the system's Python, brine in its own virtual environment: the
command is the border between them. Nothing secret crosses it.
"""

from __future__ import annotations

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

EXECUTABLE = "/opt/brine/venv/bin/brine"


def argument_spec() -> dict[str, t.Any]:
    """The options of the documentation fragment `host`."""
    return {"executable": {"type": "path", "default": EXECUTABLE}}


class BrineCli:
    """The `brine` command that `module` was told to use."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.executable: str = module.params["executable"]

    @property
    def installed(self) -> bool:
        return os.access(self.executable, os.X_OK)

    def ask(self, *arguments: str) -> dict[str, t.Any]:
        """Run one verb and return its answer; fail the module with cause and next step."""
        if not self.installed:
            self.fail(f"{self.executable} does not exist", "install brine first: the role package")
        code, out, err = self.module.run_command([self.executable, *arguments, "--json"])
        verb = " ".join(word for word in arguments if not word.startswith(("-", "/")))
        try:
            answer = json.loads(out)
            if not isinstance(answer, dict):
                raise ValueError("not an object")
        except ValueError:
            last = (err or out).strip().splitlines()[-1:] or ["nothing was printed"]
            self.fail(
                f"`brine {verb}` ended with code {code} and no answer in JSON: {last[0]}",
                "look at the journal of the host",
            )
        if code != 0 or "error" in answer:
            error = answer.get("error") or {}
            self.fail(
                f"`brine {verb}`: {error.get('cause', f'ended with code {code}')}",
                error.get("next_step", "look at the journal of the host"),
            )
        return answer

    def change(self, *arguments: str) -> dict[str, t.Any]:
        """`ask` a verb that changes things: only predict in check mode."""
        if self.module.check_mode:
            return self.ask(*arguments, "--check")
        return self.ask(*arguments)

    def fail(self, cause: str, next_step: str) -> t.NoReturn:
        self.module.fail_json(msg=f"{cause}. Next: {next_step}.", cause=cause, next_step=next_step)
        raise AssertionError("fail_json returned")


def diff_of(module: AnsibleModule, answer: dict[str, t.Any], header: str) -> dict[str, str]:
    """The `diff` of an answer as Ansible shows it, text before and after. Empty unless it was
    asked for and there is one.

    Only the lines that differ: an answer describes all peers, every host gives one, and the
    controller would have to take in all of that.
    """
    if not module._diff or not answer["changed"]:
        return {}
    diff = answer.get("diff") or {}
    before, after = ((diff.get(side) or "").splitlines() for side in ("before", "after"))
    return {
        "before": _lines(before, set(after)),
        "after": _lines(after, set(before)),
        "before_header": header,
        "after_header": header,
    }


def _lines(lines: list[str], others: set[str]) -> str:
    return "".join(f"{line}\n" for line in lines if line not in others)
