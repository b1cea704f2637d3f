# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that leave the mesh: those that were removed, and those that left the group."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ansible_collections.brine.mesh.plugins.module_utils.finding import finding
from ansible_collections.brine.mesh.plugins.plugin_utils.members import HostFinding, Member
from ansible_collections.brine.mesh.plugins.plugin_utils.store import Store, show_key


def check_store(
    store: Store,
    removed: Mapping[str, Collection[str]],
    hosts: Iterable[str],
    members: Iterable[Member],
    made_now: Iterable[str],
    percent: int,
    confirmed: bool,
) -> list[HostFinding]:
    """What the store knows of hosts that are not to be members.

    removed: hosts that were removed, and the keys that they had, in base64.
    hosts: of the group; members: those of them that were not removed.
    made_now: hosts that this run is about.
    percent: so many of the known hosts may leave the group without `confirmed`, and always one.
    """
    findings: list[HostFinding] = []
    group, coming = set(hosts), set(made_now)
    for host in sorted(group & set(removed)):
        path = store.removed_path(host)
        found = finding(
            "removed",
            f"{host} was removed from the mesh, and is still in the group",
            f"take it out of the group, or delete {path} to take it in again",
            fatal=host in coming,
        )
        findings.append({"host": host, **found})
    revoked = {key: host for host, keys in removed.items() for key in keys}
    for member in members:
        for key in map(show_key, member.public_keys):
            if key in revoked:
                found = finding(
                    "public key",
                    f"it has a key that was removed with {revoked[key]}",
                    "have it make another: remove /etc/brine/identity*.key there, and run site",
                )
                findings.append({"host": member.name, **found})
    leaving = sorted(store.hosts() - group)
    known = len(group) + len(leaving)
    if len(leaving) > max(1, known * percent // 100) and not confirmed:
        shown = ", ".join(leaving[:5]) + (", …" if len(leaving) > 5 else "")
        found = finding(
            "size",
            f"{len(leaving)} of {known} hosts that the public-key store knows are no longer in the"
            f" group, and would lose their peers: {shown}",
            "correct the inventory, or if that is meant, run again with"
            " -e brine_confirm_removal=true",
        )
        findings.append({"host": "", **found})
    return findings
