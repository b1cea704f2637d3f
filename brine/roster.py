# SPDX-License-Identifier: GPL-3.0-or-later
"""The roster: who is in the mesh, the same bytes on every host.

The role ``peers`` writes it; a host finds itself in it by its public key.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from brine import keys
from brine.errors import BrineError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
VERSION = 1
ENDPOINTS_LIMIT = 4  #: of one host
_T = TypeVar("_T")


@dataclass(frozen=True)
class Endpoint:
    """Where a host receives: an address of the underlay and a UDP port."""

    address: Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Entry:
    """One host of the mesh."""

    name: str
    public_key: bytes | None  #: None: not known yet; other hosts leave it out
    #: where it may be reached, the preferred one first; none: nobody can know, it roams
    endpoints: tuple[Endpoint, ...]
    addresses: tuple[Address, ...]  #: its own, in the mesh
    allowed_ips: tuple[Network, ...]  #: further prefixes it sends from and receives for
    roaming: bool
    #: accepted too, while its identity is being rotated; at most one of the two
    next_public_key: bytes | None = None
    previous_public_key: bytes | None = None
    groups: frozenset[str] = frozenset()  #: as far as `links` name them

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """Every identity that it may use, the one in use first."""
        keys_of = (self.public_key, self.next_public_key, self.previous_public_key)
        return tuple(key for key in keys_of if key is not None)

    @property
    def prefixes(self) -> tuple[Network, ...]:
        """Everything that is routed to it: its addresses and allowed IPs."""
        return (*(ipaddress.ip_network(address) for address in self.addresses), *self.allowed_ips)


@dataclass(frozen=True)
class Roster:
    networks: tuple[Network, ...]  #: for which packets leave through brine0 or not at all
    entries: tuple[Entry, ...]
    #: pairs of groups whose hosts may talk to each other; None: all may
    links: tuple[tuple[str, str], ...] | None = None
    source: str = field(default="the roster", compare=False)  #: path, for messages

    def find(self, public_key: bytes) -> Entry | None:
        """The entry of the host that may use that identity."""
        return next((entry for entry in self.entries if public_key in entry.public_keys), None)

    def own(self, public_key: bytes) -> Entry:
        """This host's entry.

        :raises BrineError: if there is none.
        """
        entry = self.find(public_key)
        if entry is None:
            raise BrineError(
                f"{self.source} has no entry with this host's public key"
                f" {keys.show_key(public_key)}",
                "run the play for this host again: the public-key store has another key for it,"
                " or none",
            )
        return entry

    def peers(self, public_key: bytes | None) -> tuple[Entry, ...]:
        """Every entry with a key but this host's that this host may talk to. One that is not in
        the roster, or has no key yet, counts as one that may talk to all."""
        own = self.find(public_key) if public_key is not None else None
        return tuple(
            entry
            for entry in self.entries
            if entry.public_key is not None
            and entry is not own
            and (own is None or self.linked(own, entry))
        )

    def linked(self, one: Entry, other: Entry) -> bool:
        """Whether the two may talk to each other."""
        return self.links is None or any(
            (first in one.groups and second in other.groups)
            or (second in one.groups and first in other.groups)
            for first, second in self.links
        )


def load(path: Path) -> Roster:
    """Read and check the roster.

    :raises BrineError: if it is missing, unreadable or malformed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BrineError(f"there is no {path}", "run the role peers on this host") from None
    except OSError as error:
        raise BrineError(f"{path} cannot be read: {error.strerror}", "run as root") from None
    except UnicodeDecodeError:
        raise BrineError(f"{path} is not UTF-8", "run the role peers on this host") from None
    try:
        return parse(text, str(path))
    except ValueError as error:
        raise BrineError(
            f"{path} is malformed: {error}", "correct the inventory and run the role peers"
        ) from None


def parse(text: str, source: str = "the roster") -> Roster:
    """The roster in `text`.

    :raises ValueError: saying what is wrong with it, and whose entry it is.
    """
    try:
        given = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(given, dict):
        raise ValueError("it is not an object")
    if given.get("version") != VERSION:
        raise ValueError(f"its version is {given.get('version')!r}, not {VERSION}")
    networks = tuple(_each(given, "networks", _network))
    entries = tuple(_each(given, "peers", _entry))
    links = tuple(_each(given, "links", _link)) if given.get("links") is not None else None
    roster = Roster(networks, entries, links, source)
    _check(roster)
    return roster


def parse_endpoint(text: str) -> Endpoint:
    """``a.b.c.d:port`` or ``[v6]:port``.

    :raises ValueError: if it is neither.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        number = int(port)
    except ValueError:
        raise ValueError(f"endpoint {text!r} is not an address and a port") from None
    if not colon or bracketed != (address.version == 6) or not 0 < number < 65536:
        raise ValueError(f"endpoint {text!r} is not an address and a port")
    return Endpoint(address, number)


def _each(given: Mapping[str, Any], name: str, parse_one: Callable[[Any], _T]) -> Iterable[_T]:
    values = given.get(name)
    if not isinstance(values, list):
        raise ValueError(f"{name} is not a list")
    return (parse_one(value) for value in values)


def _network(value: Any) -> Network:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a network")
    network = ipaddress.ip_network(value)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        raise ValueError(f"{network} is IPv4 in IPv6 clothes")
    return network


def _group(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not the name of a group")
    return value


def _link(value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{value!r} is not a pair of groups")
    return _group(value[0]), _group(value[1])


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def _address(value: Any) -> Address:
    network = _network(value)
    if network.prefixlen != network.max_prefixlen:
        raise ValueError(f"{value!r} is not an address")
    return network.network_address


def _entry(given: Any) -> Entry:
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"an entry has no name: {given!r}"[:80])
    try:
        roaming = given["roaming"]
        if not isinstance(roaming, bool):
            raise ValueError("roaming is neither true nor false")
        return Entry(
            name=name,
            **_public_keys(given),
            endpoints=_endpoints(given.get("endpoint")),
            addresses=tuple(_each(given, "addresses", _address)),
            allowed_ips=tuple(_each(given, "allowed_ips", _network)),
            roaming=roaming,
            groups=frozenset(_each(given, "groups", _group)) if "groups" in given else frozenset(),
        )
    except KeyError as error:
        raise ValueError(f"{name}: {error.args[0]} is missing") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _endpoints(value: Any) -> tuple[Endpoint, ...]:
    """One, or a list of several in order, or null for none."""
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise ValueError("endpoint is neither a string nor a list of strings nor null")
    if len(values) > ENDPOINTS_LIMIT:
        raise ValueError(f"it has {len(values)} endpoints, more than {ENDPOINTS_LIMIT}")
    endpoints = tuple(parse_endpoint(one) for one in values)
    if len(set(endpoints)) < len(endpoints):
        raise ValueError("it has one endpoint twice")
    return endpoints


def _text(given: Mapping[str, Any], what: str) -> str | None:
    value = given.get(what)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{what} is neither a string nor null")
    return value


def _public_keys(given: Mapping[str, Any]) -> dict[str, bytes | None]:
    """The members of Entry that are public keys."""
    found = {}
    for name in ("public_key", "next_public_key", "previous_public_key"):
        text = _text(given, name)
        try:
            found[name] = keys.parse_key(text) if text is not None else None
        except ValueError as error:
            raise ValueError(f"its {name.replace('_', ' ')} {error}") from None
    if found["public_key"] is None and any(found.values()):
        raise ValueError("it has a next or previous public key, but none in use")
    return found


def _check(roster: Roster) -> None:
    """What the maps cannot represent, and what would lock a host out."""
    owners: dict[str, Entry] = {}
    for entry in roster.entries:
        claims = {f"name {entry.name}", *(f"prefix {prefix}" for prefix in entry.prefixes)}
        if len(set(entry.public_keys)) < len(entry.public_keys):
            raise ValueError(f"{entry.name} has one public key twice")
        claims.update(f"public key {keys.show_key(key)}" for key in entry.public_keys)
        claims.update(f"endpoint {endpoint}" for endpoint in entry.endpoints)
        for claim in sorted(claims):
            other = owners.setdefault(claim, entry)
            if other is not entry:
                raise ValueError(f"{other.name} and {entry.name} have the same {claim}")
    routed: dict[Network, str] = dict.fromkeys(roster.networks, "networks")
    for entry in roster.entries:
        routed.update((network, f"{entry.name}'s allowed IPs") for network in entry.allowed_ips)
    lengths = {(network.version, network.prefixlen) for network in routed}
    reached = ((one, endpoint.address) for one in roster.entries for endpoint in one.endpoints)
    for entry, address in reached:
        for version, length in lengths:
            if version != address.version:
                continue
            network = ipaddress.ip_network((address, length), strict=False)
            if network in routed:
                # Outer packets would go into brine0, and `open` would drop all that the
                # host there sends in the clear.
                raise ValueError(
                    f"{network} of {routed[network]} contains {entry.name}'s endpoint"
                    f" {address}: only the mesh would reach it"
                )
