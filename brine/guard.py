# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard: `unreachable` routes, worse than any other, for all that the mesh carries.

While brine0 is not there, or not yet, packets for the mesh are refused instead of leaving
through whatever the default route leads to. The routes go in before any other change and
are the last to go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from brine import identity, roster
from brine.config import Paths
from brine.errors import BrineError
from brine.netdev import Net, Route
from brine.roster import Network, Roster


def apply(paths: Paths, check: bool) -> dict[str, Any]:
    """Guard what the roster says: ``{changed, diff}``.

    :raises BrineError: if there is no roster, or no sound one.
    """
    networks = wanted(roster.load(paths.roster), own_key(paths))
    with Net() as net:
        before = guarded(net)
        if not check:
            put(net, networks - before)
            take(net, before - networks)
    diff = {"before": describe(before), "after": describe(networks)}
    return {"changed": before != networks, "diff": diff}


def own_key(paths: Paths) -> bytes | None:
    """The identity's public half; None where the guard has to do without."""
    try:
        return identity.load(paths).public
    except BrineError:
        return None


def wanted(members: Roster, public_key: bytes | None) -> set[Network]:
    """The mesh's networks and the peers' allowed IPs, not this host's own: behind it, the
    host itself routes. Without its key it cannot tell, and guards these as well."""
    found = set(members.networks)
    for entry in members.peers(public_key):
        found.update(entry.allowed_ips)
    return found


def guarded(net: Net) -> set[Network]:
    """What is guarded now."""
    return {route.network for route in net.routes() if route.device is None}


def put(net: Net, networks: Iterable[Network]) -> None:
    """Guard these, too."""
    for network in sorted(networks, key=sort_key):
        net.put_route(Route(network, None))


def take(net: Net, networks: Iterable[Network]) -> None:
    """Guard these no longer."""
    for network in sorted(networks, key=sort_key):
        net.delete_route(Route(network, None))


def describe(networks: set[Network]) -> str:
    """A line for each, sorted."""
    return "".join(f"guard {network}\n" for network in sorted(networks, key=sort_key))


def sort_key(network: Network) -> tuple[int, int, int]:
    """IPv4 first, then by number: Python does not order the families."""
    return network.version, int(network.network_address), network.prefixlen
