# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may talk to whom, and peers that Ansible does not manage."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator

if t.TYPE_CHECKING:
    from ansible_collections.brine.mesh.plugins.plugin_utils.members import Member


class Notes(t.Protocol):
    def note(self, host: str, check: str, cause: str, next_step: str) -> None: ...


def read_links(notes: Notes, host: str, value: t.Any) -> tuple[tuple[str, ...], ...]:
    """`brine_links`: pairs of groups."""
    if not isinstance(value, list) or not all(
        isinstance(link, list) and len(link) == 2 for link in value
    ):
        notes.note(
            host,
            "links",
            f"brine_links is {value!r}",
            "use a list of pairs of groups, such as [[web, db], [db, db]]",
        )
        return ()
    return tuple(tuple(str(group) for group in link) for link in value)


def link_faults(members: Iterable[Member]) -> Iterator[tuple[str, str]]:
    """Cause and next step of what is wrong with the links of all members."""
    members = list(members)
    kinds = {member.links for member in members}
    if len(kinds) > 1:
        yield "brine_links differs between hosts", "set it once, for the group"
        return
    there = {group for member in members for group in member.groups}
    for group in sorted({group for link in kinds.pop() for group in link} - there if kinds else ()):
        yield (
            f"brine_links names the group {group}, of which no member of the mesh is",
            "correct the name, or take the link out",
        )
