# SPDX-License-Identifier: GPL-3.0-or-later
"""Members that do not answer: those that are down, and those that are up and cannot be reached.

A host that asks a peer in vain cannot tell which it is. The controller can: it has asked the peer
itself, and so have other hosts.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable, Mapping

from ansible_collections.brine.mesh.plugins.module_utils.finding import finding

Entry = dict[str, t.Any]  # a finding, with `host`, and `peer` where it is about one

NAMED = 8  # hosts that a message names, before it only counts them


@dataclasses.dataclass(frozen=True)
class Answers:
    """Who answered whom in a play."""

    answered: frozenset[str]  # hosts that answered Ansible
    silent: frozenset[str]  # hosts that did not
    dropped: frozenset[str]  # hosts that failed earlier in the run, or did not answer then
    reached: Mapping[str, frozenset[str]]  # peer → the hosts that reached it through the mesh

    @classmethod
    def of(
        cls,
        hosts: Iterable[str],
        in_play: Iterable[str],
        results: Mapping[str, Mapping[str, t.Any]],
    ) -> Answers:
        """From what every host registered.

        hosts: all that the play is about.
        in_play: those that have not dropped out of it.
        """
        silent = {host for host in hosts if results[host].get("unreachable")}
        reached: dict[str, set[str]] = {}
        for host in hosts:
            for one in results[host].get("reached") or []:
                reached.setdefault(str(one["peer"]), set()).add(host)
        answered = set(in_play) - silent
        return cls(
            answered=frozenset(answered),
            silent=frozenset(silent),
            dropped=frozenset(set(hosts) - answered - silent),
            reached={peer: frozenset(by) for peer, by in reached.items()},
        )


def attribute(findings: Iterable[Entry], answers: Answers, fatal: bool) -> list[Entry]:
    """The findings, each under the host that is to be mended: what many hosts say of a member
    that is down becomes one of that member, and what they say of one that is up tells so.

    fatal: whether one is that a member is down. It always is if nobody has answered: then the
    play has shown nothing.
    """
    away = answers.silent | answers.dropped
    asked_by: dict[str, dict[str, None]] = {  # in the order of the findings
        peer: {} for peer in sorted(away) if not answers.reached.get(peer)
    }
    found: list[Entry] = []
    for entry in findings:
        peer = str(entry.get("peer") or "")
        if peer in asked_by:
            asked_by[peer][str(entry["host"])] = None
        elif peer:
            found.append({**entry, "cause": f"{entry['cause']}; {known(peer, answers)}"})
        else:
            found.append(entry)
    for peer, hosts in asked_by.items():
        if answers.answered:
            found.append({"host": peer, **absent(peer in answers.silent, hosts, fatal)})
        else:
            found.append({"host": peer, **unasked()})
    for host in sorted(answers.silent - set(asked_by)):
        found.append(
            {
                "host": host,
                **finding(
                    "connection",
                    "it does not answer Ansible, though"
                    f" {names(sorted(answers.reached[host]))} can reach it through the mesh",
                    "see why the controller cannot log in there",
                ),
            }
        )
    return found


def absent(silent: bool, asked_by: Iterable[str], fatal: bool) -> Entry:
    """What is said of a member that nobody reached.

    silent: whether it failed to answer Ansible just now; else it dropped out of the run before.
    """
    asked = names(asked_by)
    if silent and asked:
        cause = f"it is down or cut off: it answers neither Ansible nor {asked} through the mesh"
    elif silent:
        cause = "it does not answer Ansible, and no host has asked it through the mesh"
    elif asked:
        cause = f"it dropped out of this run, see above, and does not answer {asked} in the mesh"
    else:
        cause = "it dropped out of this run, see above, and no host has asked it through the mesh"
    next_step = (
        "see whether it runs and has its network; if it is gone for good, brine.mesh.remove_hosts"
    )
    return {**finding("absent", cause, next_step, fatal)}


def unasked() -> Entry:
    """What is said of each member if none has answered."""
    cause = "no host of this play answers Ansible, so it has shown nothing of the mesh"
    next_step = "see whether the controller has its network and may log in, then whether they run"
    return {**finding("absent", cause, next_step)}


def known(peer: str, answers: Answers) -> str:
    """What else is known of a peer that a host asked in vain."""
    if peer in answers.answered:
        return f"{peer} is up, it answers Ansible"
    if peer in answers.reached:
        return f"{peer} is up, {names(sorted(answers.reached[peer]))} can reach it"
    return f"this play has not asked whether {peer} is up"


def names(hosts: Iterable[str]) -> str:
    """Hosts in a message, however many."""
    listed = list(hosts)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
