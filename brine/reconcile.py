# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the maps, brine0's addresses and its routes what the roster says.

What has not changed is not touched: other peers' associations live on, nothing is
restarted. Prefixes leave a peer before its slot is emptied, and a slot is filled before
prefixes lead to it, so at no time does a packet reach another peer than its own, or the
underlay in the clear.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brine import control_client, former, guard, identity, pins, plan, sources
from brine.config import DEVICE, Config, Paths
from brine.errors import BrineError
from brine.locking import locked
from brine.maps import Maps
from brine.netdev import Net, Route
from brine.plan import Device, Tables
from brine.records import RouteValues
from brine.roster import Entry, Network, Roster
from brine.roster import load as load_roster
from brine.sources import Sources

_NO_VALUES = RouteValues(own=-1, nobody=-2, outside=0)  # of no map, for predictions


def apply(config: Config, roster_path: Path, check: bool) -> dict[str, Any]:
    """Reconcile: ``{changed, added, updated, removed, notes, diff}``. Names of peers; of
    those that have left the roster, ids of their keys.

    :raises BrineError: if the roster, the identity or the data path does not allow it.
    """
    roster = load_roster(roster_path)
    own = _own(config.paths, roster, check)
    if check and pins.current(config.bpffs) is None:
        return _answer(roster, own, *_nothing_yet(config.max_peers, roster, own))
    with (
        contextlib.nullcontext() if check else locked(config.paths.apply_lock),
        Maps.of(config) as maps,
        Net() as net,
    ):
        current = _read(maps, net)
        wanted, notes = _plan(config, roster, own, maps, net, current)
        if not check:
            _change_former(config, maps.route_values, current, wanted)
            _change(maps, net, current, wanted)
        answer = _answer(roster, own, maps.route_values, current, wanted, notes)
    if not check:
        # It reads names and endpoints itself; without it they wait for its start.
        with contextlib.suppress(control_client.NotRunning):
            control_client.request(config.paths.control_socket, "reload")
    return answer


def predict(paths: Paths, roster_path: Path) -> dict[str, Any]:
    """What the first `apply` will say on a host that has no configuration yet.

    :raises BrineError: if the roster is not sound.
    """
    roster = load_roster(roster_path)
    own = _own(paths, roster, check=True)
    return _answer(roster, own, *_nothing_yet(len(roster.entries), roster, own))


class State:
    """Everything that a run compares: what is, or what is to be."""

    def __init__(
        self, tables: Tables, device: Device, sources: Sources, guarded: frozenset[Network]
    ) -> None:
        self.tables = tables
        self.device = device
        self.sources = sources
        self.guarded = guarded

    def describe(self, values: RouteValues, names: Mapping[bytes, str]) -> str:
        text = plan.describe(self.tables, self.device, self.sources, values, names)
        return text + guard.describe(set(self.guarded))


def _own(paths: Paths, roster: Roster, check: bool) -> Entry | None:
    """This host's entry. None only with `check`, before there is a key or the store has it."""
    try:
        return roster.own(identity.load(paths).public)
    except BrineError:
        if check:
            return None
        raise


def _nothing_yet(
    max_peers: int, roster: Roster, own: Entry | None
) -> tuple[RouteValues, State, State, list[str]]:
    """The prediction for a host whose data path is yet to be set up."""
    nothing = State(Tables(), Device(), Sources(), frozenset())
    tables = plan.plan_tables(roster, own, Tables(), max_peers, _NO_VALUES)
    device, notes = plan.plan_device(roster, own) if own else (Device(), [])
    guarded = guard.wanted(roster, own.public_key if own else None)
    wanted = State(tables, device, Sources(), frozenset(guarded))
    return _NO_VALUES, nothing, wanted, notes


# what is


def _read(maps: Maps, net: Net) -> State:
    device = net.link(DEVICE)
    routes = net.routes()
    there = Device()
    if device is not None:
        through = {
            route.network: plan.Via(route.source, route.outside)
            for route in routes
            if route.device == device.index
        }
        there = Device(frozenset(net.addresses(device.index)), through)
    return State(
        Tables(maps.peers(), maps.routes(), maps.endpoints()),
        there,
        sources.read(maps),
        frozenset(route.network for route in routes if route.device is None),
    )


def _plan(
    config: Config, roster: Roster, own: Entry | None, maps: Maps, net: Net, current: State
) -> tuple[State, list[str]]:
    underlay = net.link(config.interface)
    if underlay is None:
        raise BrineError(
            f"there is no interface {config.interface}",
            f"set brine_interface to one of: {', '.join(net.names())}",
        )
    usable = net.sources(underlay.index)
    if not usable:
        raise BrineError(
            f"{config.interface} has no address to send from",
            f"wait for it, or give it one: ip addr add ADDRESS dev {config.interface}",
        )
    plan.refuse_lock_out(roster, usable)
    plan.refuse_leaks(roster, net.foreign_routes())
    values, max_peers = maps.route_values, maps.max_peers
    chosen = sources.choose(usable, own.endpoints if own else (), current.sources)
    tables = plan.plan_tables(roster, own, current.tables, max_peers, values, chosen.families)
    names = _names(roster)
    notes = plan.unreachable(tables, chosen, names)
    device = current.device
    if own is not None:
        device, more = plan.plan_device(roster, own)
        notes += more
    guarded = guard.wanted(roster, own.public_key if own else None)
    return State(tables, device, chosen, frozenset(guarded)), notes


# the change


def _change_former(config: Config, values: RouteValues, current: State, wanted: State) -> None:
    """Former programs (former.py) go by what the tables were: they are to know nobody any more
    of whom something changes, and nobody at all if this host's address does."""
    different = plan.affected(current.tables, wanted.tables, values)
    moved = current.sources != wanted.sources
    if different or moved:
        with former.Formers(config.bpffs, config.paths.control_lock) as formers:
            for one in formers.identities() if moved else different:
                formers.erase(one)


def _change(maps: Maps, net: Net, current: State, wanted: State) -> None:
    device = net.link(DEVICE)
    if device is None:
        raise BrineError(f"{DEVICE} is not there", "run `brine dataplane apply`")
    guard.put(net, wanted.guarded - current.guarded)
    _take_prefixes(maps, current.tables, wanted.tables)
    _change_peers(maps, current.tables, wanted.tables)
    _give_prefixes(maps, current.tables, wanted.tables)
    if current.sources != wanted.sources:
        sources.write(maps, wanted.sources)
    _change_device(net, device.index, current.device, wanted.device)
    guard.take(net, current.guarded - wanted.guarded)


def _take_prefixes(maps: Maps, current: Tables, wanted: Tables) -> None:
    """From the peers that lose them: to nobody until the next owner is there."""
    nobody = maps.route_values.nobody
    for network, value in current.routes.items():
        if network not in wanted.routes:
            maps.delete_route(network)
        elif wanted.routes[network] != value:
            maps.set_route(network, nobody)
    for address, number in current.endpoints.items():
        if wanted.endpoints.get(address) != number:
            maps.delete_endpoint(address)


def _change_peers(maps: Maps, current: Tables, wanted: Tables) -> None:
    replaced = {
        number
        for number, peer in current.peers.items()
        if number not in wanted.renamed
        and (number not in wanted.peers or wanted.peers[number].identity != peer.identity)
    }
    # What a run that was cut short may have left: no slot's next peer inherits it.
    left = {association.peer for association in maps.associations()} - current.peers.keys()
    if replaced | left:
        maps.clear_peers(replaced | left)
    # Of an identity only the control program takes notice, which the lock keeps out meanwhile.
    with maps.locked() if wanted.renamed else contextlib.nullcontext():
        for number, peer in wanted.peers.items():
            if current.peers.get(number) != peer:
                maps.write_peer(number, peer.identity, peer.endpoint, peer.roaming)


def _give_prefixes(maps: Maps, current: Tables, wanted: Tables) -> None:
    for network, value in wanted.routes.items():
        if current.routes.get(network) != value:
            maps.set_route(network, value)
    for address, number in wanted.endpoints.items():
        if current.endpoints.get(address) != number:
            maps.set_endpoint(address, number)


def _change_device(net: Net, index: int, current: Device, wanted: Device) -> None:
    for address in sorted(wanted.addresses - current.addresses, key=str):
        net.add_address(index, address.ip)
    for network, via in wanted.routes.items():
        if current.routes.get(network) != via:
            net.put_route(Route(network, index, via.source, via.outside))
    for network, via in current.routes.items():
        gone = network not in wanted.routes
        if gone or wanted.routes[network].outside != via.outside:  # another metric: beside it
            net.delete_route(Route(network, index, via.source, via.outside))
    for address in sorted(current.addresses - wanted.addresses, key=str):
        net.delete_address(index, address)


# the answer


def _names(roster: Roster) -> dict[bytes, str]:
    return {key: entry.name for entry in roster.entries for key in entry.public_keys}


def _answer(
    roster: Roster,
    own: Entry | None,
    values: RouteValues,
    current: State,
    wanted: State,
    notes: list[str],
) -> dict[str, Any]:
    names = _names(roster)
    before = plan.peer_lines(current.tables, values, names)
    after = plan.peer_lines(wanted.tables, values, names)
    diff = {key: state.describe(values, names) for key, state in _pair(current, wanted)}
    missing = [entry.name for entry in roster.entries if entry.public_key is None]
    if missing:
        notes = [*notes, f"left out until their public keys are known: {', '.join(missing)}"]
    if own is None:
        notes = [*notes, "this host is not in the roster yet"]
    return {
        "changed": diff["before"] != diff["after"],
        "added": sorted(after.keys() - before.keys()),
        "updated": sorted(k for k in before if after.get(k, before[k]) != before[k]),
        "removed": sorted(before.keys() - after.keys()),
        "notes": notes,
        "diff": diff,
    }


def _pair(current: State, wanted: State) -> tuple[tuple[str, State], tuple[str, State]]:
    return ("before", current), ("after", wanted)
