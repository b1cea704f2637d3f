# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that Ansible does not manage: given by key and endpoint, the same for all hosts.

Whoever runs them gives them the public keys of the mesh; here they are entries of the roster
like any other.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t
from collections.abc import Iterable, Mapping

from ansible_collections.brine.mesh.plugins.plugin_utils.members import (
    DEFAULTS,
    Address,
    Member,
    MemberReader,
)
from ansible_collections.brine.mesh.plugins.plugin_utils.store import parse_key

VARIABLE = "brine_external_peers"
KNOWN = {"name", "public_key", "endpoint", "addresses", "allowed_ips", "roaming", "groups"}


def external_members(reader: MemberReader, members: list[Member]) -> list[Member]:
    """Those that the variables of the members' hosts name."""
    if not members:
        return []
    values = [reader.hostvars[one.name].get(VARIABLE, DEFAULTS[VARIABLE]) for one in members]
    if any(value != values[0] for value in values):
        reader.note(
            "", "external peers", f"{VARIABLE} differs between hosts", "set it once, for the group"
        )
        return []
    if not isinstance(values[0], list) or not all(isinstance(one, Mapping) for one in values[0]):
        reader.note("", "external peers", f"{VARIABLE} is no list of peers", "see the role brine")
        return []
    return [read(reader, given, members[0]) for given in values[0]]


def read(reader: MemberReader, given: Mapping[str, t.Any], host: Member) -> Member:
    """One of them. What they share with the managed ones is as `host` has it."""
    name = str(given.get("name", ""))

    def note(cause: str, next_step: str) -> None:
        reader.note(name, "external peers", cause, next_step)

    if not name:
        note("one has no name", "give it one")
    for unknown in sorted(set(given) - KNOWN):
        note(f"{unknown} is nothing that an external peer has", f"use {', '.join(sorted(KNOWN))}")
    try:
        key = parse_key(str(given.get("public_key", "")))
    except ValueError as error:
        key = None
        note(f"its public key {error}", "ask whoever runs it for `brine identity show`")
    roaming = reader.flag(name, "roaming", given.get("roaming", False))
    named = {group for link in host.links for group in link}
    return dataclasses.replace(
        host,
        name=name,
        public_key=key,
        next_public_key=None,
        previous_public_key=None,
        endpoints=read_endpoints(given.get("endpoint"), roaming, note),
        addresses=reader.parse_all(
            name, "addresses", given.get("addresses", []), ipaddress.ip_address
        ),
        allowed_ips=reader.parse_all(
            name, "allowed_ips", given.get("allowed_ips", []), ipaddress.ip_network
        ),
        roaming=roaming,
        groups=frozenset(named & set(map(str, strings(given.get("groups", []))))),
    )


def strings(value: t.Any) -> Iterable[t.Any]:
    return value if isinstance(value, list) else [value]


def read_endpoints(
    given: t.Any, roaming: bool, note: t.Callable[[str, str], None]
) -> tuple[tuple[Address, int], ...]:
    """One, or a list of several in order, or nothing for a peer that roams."""
    if not given and roaming:
        return ()
    values = given if isinstance(given, list) and given else [given or ""]
    found = [read_endpoint(str(value), note) for value in values]
    return tuple(endpoint for endpoint in found if endpoint is not None)


def read_endpoint(text: str, note: t.Callable[[str, str], None]) -> tuple[Address, int] | None:
    """``a.b.c.d:port`` or ``[v6]:port``."""
    host, _colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        if bracketed == (address.version == 6) and 0 < int(port) < 65536:
            return address, int(port)
    except ValueError:
        pass
    note(f"its endpoint is {text!r}", "use ADDRESS:PORT, or have it roam")
    return None
