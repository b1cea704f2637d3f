# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roster means for one host's tables: pure functions, without a kernel."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from brine import guard, keys
from brine.errors import BrineError
from brine.netdev import Interface
from brine.records import PeerEntry, RouteValues
from brine.roster import Address, Endpoint, Entry, Network, Roster
from brine.sources import Sources

ROUTES_LIMIT = 65536  #: max_entries of `routes`


@dataclass(frozen=True)
class Tables:
    """What user space writes of the maps."""

    peers: Mapping[int, PeerEntry] = field(default_factory=dict)
    routes: Mapping[Network, int] = field(default_factory=dict)
    endpoints: Mapping[Address, int] = field(default_factory=dict)
    #: peers whose slot is to bear another identity of theirs: associations live on
    renamed: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Via:
    """How a route through brine0 is to be."""

    source: Address | None
    outside: bool  #: of the mesh's networks


@dataclass(frozen=True)
class Device:
    """Addresses of brine0 and routes through it."""

    addresses: frozenset[Interface] = frozenset()
    routes: Mapping[Network, Via] = field(default_factory=dict)


def affected(before: Tables, after: Tables, values: RouteValues) -> set[bytes]:
    """Identities, as of `before`, of peers of whom anything changes: where they are, whether
    they roam, which addresses are theirs. Also if another gets a prefix within one of theirs, or
    loses one: longest prefix match makes it a change of both."""
    owners, is_now = _owners(before, values), _owners(after, values)
    others = {peer.identity: (peer.endpoint, peer.roaming) for peer in after.peers.values()}
    found = {
        peer.identity
        for peer in before.peers.values()
        if others.get(peer.identity) != (peer.endpoint, peer.roaming)
    }
    for network in owners.keys() | is_now.keys():
        if owners.get(network) != is_now.get(network):
            found.update(
                owner
                for length in range(network.prefixlen + 1)
                if (owner := owners.get(network.supernet(new_prefix=length)))
            )
    return found


def _owners(tables: Tables, values: RouteValues) -> dict[Network, bytes]:
    """Prefix -> identity of its peer, empty if it is nobody's or this host's."""
    found = {}
    for network, value in tables.routes.items():
        owner = values.peer(value)
        peer = tables.peers.get(owner) if owner is not None else None
        found[network] = peer.identity if peer is not None else b""
    return found


def plan_tables(
    roster: Roster,
    own: Entry | None,
    current: Tables,
    max_peers: int,
    values: RouteValues,
    families: Collection[int] = (4, 6),
) -> Tables:
    """The tables that the roster asks for. Hosts that are there keep their number, whichever of
    their identities it bears, and the endpoint in use where that will still do.

    own: this host's entry.
    families: IP versions that outer packets can leave by.

    :raises BrineError: if the peers or their prefixes are too many.
    """
    entries = roster.peers(own.public_key if own is not None else None)
    if len(entries) > max_peers:
        raise BrineError(
            f"the roster has {len(entries)} peers, but max_peers is {max_peers}",
            "raise brine_max_peers, with room to grow, and run the role dataplane",
        )
    known = {peer.identity: peer for peer in current.peers.values()}
    slots = [next((known[key] for key in one.public_keys if key in known), None) for one in entries]
    numbers = _numbers(slots, {peer.number for peer in known.values()}, max_peers)
    peers: dict[int, PeerEntry] = {}
    routes: dict[Network, int] = dict.fromkeys(roster.networks, values.nobody)
    listed: dict[Address, list[int]] = {}
    renamed = set()
    for entry, slot, number in zip(entries, slots, numbers, strict=True):
        identity = entry.public_key or b""
        endpoint = choose_endpoint(entry, slot.endpoint if slot is not None else None, families)
        if slot is not None and slot.identity != identity:
            renamed.add(number)
        peers[number] = PeerEntry(number, identity, endpoint, entry.roaming)
        for prefix in entry.prefixes:
            outside = 0 if _within(prefix, roster.networks) else values.outside
            routes[prefix] = number + outside
        for each in (*entry.endpoints, endpoint):
            if each is not None:
                listed.setdefault(each.address, []).append(number)
    if own is not None:
        routes.update((ipaddress.ip_network(address), values.own) for address in own.addresses)
    if len(routes) > ROUTES_LIMIT:
        raise BrineError(
            f"the roster has {len(routes)} prefixes, but there is room for {ROUTES_LIMIT}",
            "join allowed IPs to larger prefixes",
        )
    # Behind one address there may be two hosts; either will do, so that it stays as it is.
    endpoints = {
        address: now if (now := current.endpoints.get(address)) in there else there[0]
        for address, there in listed.items()
    }
    return Tables(peers, routes, endpoints, frozenset(renamed))


def choose_endpoint(
    entry: Entry, now: Endpoint | None, families: Collection[int]
) -> Endpoint | None:
    """Where packets to a peer go: to where they go already, if the roster names that, or the
    peer roams. Else to the first of its endpoints in a family that this host can send by; to
    the first of all if there is none, which `unreachable` notes.

    now: where they go; None: nowhere yet.
    """
    reachable = [one for one in entry.endpoints if one.address.version in families]
    if now is not None and (entry.roaming or now in reachable):
        return now
    return next(iter((*reachable, *entry.endpoints)), None)


def _within(prefix: Network, networks: Iterable[Network]) -> bool:
    return any(
        prefix.version == network.version
        and prefix.prefixlen >= network.prefixlen
        and prefix.network_address in network
        for network in networks
    )


def _numbers(slots: Sequence[PeerEntry | None], known: set[int], max_peers: int) -> list[int]:
    """A number for each entry. New ones get the lowest that nobody has, and only then those
    of peers that leave: packets on their way to these need not meet a stranger.

    slots: where the entry's host is now; None: nowhere.
    known: all numbers in use now.
    """
    kept = {slot.number for slot in slots if slot is not None}
    leaving = known - kept
    taken = kept | leaving
    free = iter([*(n for n in range(max_peers) if n not in taken), *sorted(leaving)])
    return [slot.number if slot is not None else next(free) for slot in slots]


def plan_device(roster: Roster, own: Entry) -> tuple[Device, list[str]]:
    """What brine0 is to have, and notes on networks that the host cannot use: without an
    address of that family only the guard's route is there."""
    routes, notes = {}, []
    for network in sorted(guard.wanted(roster, own.public_key), key=guard.sort_key):
        same = [address for address in own.addresses if address.version == network.version]
        inside = [address for address in same if address in network]
        if same:
            routes[network] = Via((inside or same)[0], not _within(network, roster.networks))
        else:
            notes.append(
                f"{own.name} has no IPv{network.version} address in the mesh: {network} is"
                " out of its reach"
            )
    addresses = frozenset(ipaddress.ip_interface(address) for address in own.addresses)
    return Device(addresses, routes), notes


def refuse_lock_out(roster: Roster, addresses: Iterable[Address]) -> None:
    """`open` drops what comes in the clear for or from the mesh's networks: the interface's
    own addresses must not be among them.

    :raises BrineError: if one is.
    """
    for address in addresses:
        for network in roster.networks:
            if address in network:
                raise BrineError(
                    f"the underlay address {address} lies in {network}, which only the mesh"
                    " would reach: the host would be cut off",
                    "choose other brine_networks",
                )


def refuse_leaks(roster: Roster, foreign: Iterable[tuple[Network, str]]) -> None:
    """A route into the mesh's networks that somebody else made would win over brine0.

    :raises BrineError: if there is one.
    """
    for network, device in foreign:
        if _within(network, roster.networks):
            raise BrineError(
                f"the host routes {network}, of the mesh's networks, through {device}: packets"
                " for it would leave in the clear",
                "choose other brine_networks, or remove the route",
            )


def unreachable(tables: Tables, sources: Sources, names: Mapping[bytes, str]) -> list[str]:
    """Notes on peers none of whose endpoints is of a family that the host has an address of."""
    notes = []
    for family, source in ((4, sources.ipv4), (6, sources.ipv6)):
        if source is not None:
            continue
        cut_off = sorted(
            show_name(peer.identity, names)
            for peer in tables.peers.values()
            if peer.endpoint is not None and peer.endpoint.address.version == family
        )
        if cut_off:
            notes.append(
                f"the interface has no IPv{family} address to send from, which"
                f" {', '.join(cut_off)} would need"
            )
    return notes


# text


def show_name(identity: bytes, names: Mapping[bytes, str]) -> str:
    """A peer's name in the roster, or the id of its key."""
    return names.get(identity) or keys.key_id(identity)


def peer_lines(tables: Tables, values: RouteValues, names: Mapping[bytes, str]) -> dict[str, str]:
    """Name, or id of a key that nobody in the roster has → what the tables say of the peer, in
    a line."""
    prefixes: dict[int | None, list[Network]] = {}
    for network, value in tables.routes.items():
        prefixes.setdefault(values.peer(value), []).append(network)
    listed: dict[int, list[Address]] = {}
    for address, number in tables.endpoints.items():
        listed.setdefault(number, []).append(address)
    lines = {}
    for number, peer in tables.peers.items():
        allowed = sorted(prefixes.get(number, []), key=guard.sort_key)
        used = peer.endpoint and peer.endpoint.address
        others = sorted(str(address) for address in listed.get(number, []) if address != used)
        endpoint = " or ".join((str(peer.endpoint or "unknown"), *others))
        lines[show_name(peer.identity, names)] = " ".join(
            (
                f"peer {show_name(peer.identity, names)} {keys.key_id(peer.identity)}",
                f"endpoint {endpoint}{' roaming' if peer.roaming else ''}",
                f"allowed {', '.join(map(str, allowed)) or 'nothing'}",
            )
        )
    return lines


def describe(
    tables: Tables,
    device: Device,
    sources: Sources,
    values: RouteValues,
    names: Mapping[bytes, str],
) -> str:
    """All of it, a line each, sorted; what the diff compares."""
    lines = [f"network {network}" for network in _of(tables.routes, values.nobody)]
    lines += [f"own {network}" for network in _of(tables.routes, values.own)]
    lines += [f"source {address}" for address in (sources.ipv4, sources.ipv6) if address]
    lines += [f"address {address}" for address in sorted(map(str, device.addresses))]
    lines += [
        f"route {network} from {device.routes[network].source}"
        for network in sorted(device.routes, key=guard.sort_key)
    ]
    lines += sorted(peer_lines(tables, values, names).values())
    lines += [
        f"endpoint {address} is {show_name(tables.peers[number].identity, names)}'s"
        for address, number in sorted(tables.endpoints.items(), key=lambda item: str(item[0]))
        if number in tables.peers
    ]
    return "".join(f"{line}\n" for line in lines)


def _of(routes: Mapping[Network, int], value: int) -> list[Network]:
    found = [network for network, number in routes.items() if number == value]
    return sorted(found, key=guard.sort_key)
