# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of the mesh as the inventory and the public-key store describe them.

Runs on the controller, once a play, over all hosts of the group: also those outside
`--limit`. Everything here is linear in their number.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import socket
import typing as t
from collections.abc import Callable, Iterable, Mapping

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.brine.mesh.plugins.module_utils.finding import Finding, finding
from ansible_collections.brine.mesh.plugins.plugin_utils.address import PREFIX, overlay_address
from ansible_collections.brine.mesh.plugins.plugin_utils.selection import link_faults, read_links
from ansible_collections.brine.mesh.plugins.plugin_utils.store import (
    RESERVED,
    Store,
    parse_key,
    show_key,
)

Address = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

ROSTER_VERSION = 1
ENDPOINTS_LIMIT = 4  # of one host; brine.roster has the same on the hosts

# A role's defaults reach only the host that runs the role, and the roster is about
# every host. These are the defaults of the role `brine`; a test holds them equal.
DEFAULTS: dict[str, t.Any] = {
    "brine_port": 4747,
    "brine_addresses": [],
    "brine_derived_address": True,
    "brine_allowed_ips": [],
    "brine_roaming": False,
    "brine_networks": ["10.77.0.0/16", f"{PREFIX}"],
    "brine_max_peers": 64,
    "brine_mesh_secret": "",
    "brine_links": [],
    "brine_external_peers": [],
}


class HostFinding(Finding):
    host: str  # "" where it concerns the inventory as a whole


@dataclasses.dataclass(frozen=True)
class Member:
    """One host of the group, its variables read and its key fetched from the store."""

    name: str
    public_key: bytes | None  # None: not made yet
    # The preferred one first. None: not known, it roams.
    endpoints: tuple[tuple[Address, int], ...]
    addresses: tuple[Address, ...]
    allowed_ips: tuple[Network, ...]
    roaming: bool
    networks: tuple[Network, ...]
    max_peers: int
    mesh_secret: bytes | None = dataclasses.field(repr=False)
    # At most one: its identity is being rotated.
    next_public_key: bytes | None = None
    previous_public_key: bytes | None = None
    links: tuple[
        tuple[str, ...], ...
    ] = ()  # pairs of groups; none: everybody may talk to everybody
    groups: frozenset[str] = frozenset()  # of those in `links`

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        keys = (self.public_key, self.next_public_key, self.previous_public_key)
        return tuple(key for key in keys if key)

    def roster_entry(self) -> dict[str, t.Any]:
        others = {"next": self.next_public_key, "previous": self.previous_public_key}
        endpoints = [show_endpoint(endpoint) for endpoint in self.endpoints]
        return {
            "name": self.name,
            "public_key": show_key(self.public_key) if self.public_key else None,
            **{f"{which}_public_key": show_key(key) for which, key in others.items() if key},
            "endpoint": endpoints if len(endpoints) > 1 else next(iter(endpoints), None),
            "addresses": [str(address) for address in self.addresses],
            "allowed_ips": [str(network) for network in self.allowed_ips],
            "roaming": self.roaming,
            **({"groups": sorted(self.groups)} if self.links else {}),
        }


def show_endpoint(endpoint: tuple[Address, int]) -> str:
    address, port = endpoint
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class MemberReader:
    """Reads the variables of one host after another and notes what is wrong with them."""

    def __init__(self, hostvars: Mapping[str, Mapping[str, t.Any]], store: str) -> None:
        self.hostvars = hostvars
        self.store = Store(store)
        self.findings: list[HostFinding] = []

    def note(self, host: str, check: str, cause: str, next_step: str) -> None:
        self.findings.append({"host": host, **finding(check, cause, next_step)})

    def read(self, host: str) -> Member:
        given = self.hostvars[host]

        def variable(name: str) -> t.Any:
            return given.get(name, DEFAULTS.get(name))

        keys = {which: self.public_key(host, which) for which in ("current", "next", "previous")}
        networks = self.parse_all(
            host, "brine_networks", variable("brine_networks"), ipaddress.ip_network
        )
        addresses = self.parse_all(
            host, "brine_addresses", variable("brine_addresses"), ipaddress.ip_address
        )
        if self.flag(host, "brine_derived_address", variable("brine_derived_address")):
            # All of them, so that none goes before its key is retired; that in use first.
            addresses = (*addresses, *(overlay_address(key) for key in keys.values() if key))
        roaming = self.flag(host, "brine_roaming", variable("brine_roaming"))
        links = read_links(self, host, variable("brine_links"))
        named = {group for link in links for group in link}
        return Member(
            name=str(host),
            public_key=keys["current"],
            next_public_key=keys["next"],
            previous_public_key=keys["previous"],
            endpoints=self.endpoints(host, given, variable("brine_port"), roaming),
            addresses=addresses,
            allowed_ips=self.parse_all(
                host, "brine_allowed_ips", variable("brine_allowed_ips"), ipaddress.ip_network
            ),
            roaming=roaming,
            networks=networks,
            max_peers=self.integer(host, "brine_max_peers", variable("brine_max_peers")),
            mesh_secret=self.mesh_secret(host, variable("brine_mesh_secret")),
            links=links,
            groups=frozenset(named & {str(group) for group in given.get("group_names", ())}),
        )

    def public_key(self, host: str, which: str) -> bytes | None:
        try:
            return self.store.read(host, which)
        except ValueError as error:
            self.note(
                host,
                "public key",
                f"{self.store.path(host, which)} {error}",
                f"put back what `brine identity status` prints on {host}, or remove the file and "
                f"run the play with {host} in it",
            )
            return None

    def endpoints(
        self, host: str, given: Mapping[str, t.Any], port: t.Any, roaming: bool
    ) -> tuple[tuple[Address, int], ...]:
        number = self.integer(host, "brine_port", port)
        if not 0 < number < 65536:
            self.note(host, "port", f"brine_port is {number}", "use one of 1 to 65535")
        # Set but empty says that nobody can know it, which only a roaming peer may.
        names = given.get("brine_endpoint", given.get("ansible_host", host))
        if not names:
            if not roaming:
                self.note(
                    host,
                    "endpoint",
                    "it has no endpoint and does not roam",
                    "set brine_endpoint or brine_roaming",
                )
            return ()
        found = [
            self.resolve(host, str(name))
            for name in (names if isinstance(names, list) else [names])
        ]
        return tuple((address, number) for address in found if address is not None)

    def resolve(self, host: str, name: str) -> Address | None:
        """The address, or what the name stands for: its first IPv4 address if it has one."""
        try:
            return ipaddress.ip_address(name)
        except ValueError:
            pass
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM) if name else []
        except (OSError, UnicodeError):
            found = []
        if not found:
            self.note(
                host,
                "endpoint",
                f"{name or repr(name)} is neither an address nor a name that the controller can"
                " resolve",
                "set brine_endpoint to the address that the other hosts reach it by, or to a list"
                " of such",
            )
            return None
        resolved = sorted(
            {ipaddress.ip_address(str(entry[4][0]).split("%", 1)[0]) for entry in found},
            key=lambda address: (address.version, int(address)),
        )
        return resolved[0]

    def mesh_secret(self, host: str, value: t.Any) -> bytes | None:
        """The secret's bytes. What is wrong with it is said without a byte of it."""
        if not value:
            return None
        try:
            return parse_key(str(value))
        except ValueError as error:
            self.note(
                host,
                "mesh secret",
                f"brine_mesh_secret {error}",
                "make one: head -c 32 /dev/urandom | base64",
            )
            return None

    def flag(self, host: str, name: str, value: t.Any) -> bool:
        try:
            return bool(boolean(value))
        except TypeError:
            self.note(host, name, f"{name} is {value!r}", "use true or false")
            return False

    def integer(self, host: str, name: str, value: t.Any) -> int:
        try:
            return int(value)
        except (TypeError, ValueError):
            self.note(host, name, f"{name} is {value!r}", "use a number")
            return 0

    def parse_all(
        self, host: str, name: str, values: t.Any, parse: Callable[[str], t.Any]
    ) -> tuple[t.Any, ...]:
        if not isinstance(values, list):
            self.note(host, name, f"{name} is {values!r}", "use a list")
            return ()
        parsed = []
        for value in values:
            try:
                parsed.append(parse(str(value)))
            except ValueError as error:
                self.note(host, name, str(error), f"correct {name}")
        return tuple(parsed)


def check_members(members: list[Member], made_now: Iterable[str]) -> list[HostFinding]:
    """What is wrong with the members taken together.

    made_now: hosts whose missing key is no fault, since this run makes it.
    """
    findings: list[HostFinding] = []

    def note(host: str, check: str, cause: str, next_step: str) -> None:
        findings.append({"host": host, **finding(check, cause, next_step)})

    coming = set(made_now)
    for member in members:
        if member.public_key is None and member.name not in coming:
            note(
                member.name,
                "public key",
                "the store has none for it, and this run does not make it",
                f"run the play once with {member.name} in --limit, or take it out of the group",
            )
        if member.name.endswith(RESERVED):
            note(
                member.name,
                "name",
                f"it ends as files of the public-key store do: {', '.join(RESERVED)}",
                "give it another",
            )
        for cause, next_step in member_faults(member):
            note(member.name, "addresses", cause, next_step)
        if len(members) > member.max_peers:
            note(
                member.name,
                "size",
                f"brine_max_peers is {member.max_peers}, but the group has {len(members)} hosts",
                "raise brine_max_peers, with room to grow",
            )

    for check, what, values_of in (
        ("names", "name, upper and lower case apart,", lambda m: [m.name.casefold()]),
        ("addresses", "address", lambda m: m.addresses),
        ("endpoints", "endpoint", lambda m: map(show_endpoint, m.endpoints)),
        ("allowed IPs", "prefix", lambda m: m.allowed_ips),
        (
            "public keys",
            "public key (a cloned machine?)",
            lambda m: map(show_key, m.public_keys),
        ),
    ):
        for value, names in shared(members, values_of):
            note("", check, f"{', '.join(names)} have the same {what} {value}", "give each its own")

    if len({member.networks for member in members}) > 1:
        note("", "networks", "brine_networks differs between hosts", "set it once, for the group")
    for cause, next_step in link_faults(members):
        note("", "links", cause, next_step)
    if len({member.mesh_secret for member in members}) > 1:
        note(
            "",
            "mesh secret",
            "brine_mesh_secret differs between hosts, which could never talk to each other",
            "set it once, for the group",
        )
    return findings


def member_faults(member: Member) -> t.Iterator[tuple[str, str]]:
    """Cause and next step for each address of one member that cannot be."""
    if not member.addresses and member.public_key:
        yield "it has no overlay address", "set brine_addresses or brine_derived_address"
    for address in member.addresses:
        within = [network for network in member.networks if address in network]
        if not within:
            derived = " (derived from its key)" if address in PREFIX else ""
            yield (
                f"{address}{derived} is in none of brine_networks",
                "change the address, or add its network",
            )
        for network in within:
            edges = (network.network_address, network.broadcast_address)
            if address.version == 4 and network.prefixlen < 31 and address in edges:
                yield f"{address} is no host address of {network}", "use another"
    if len(member.endpoints) > ENDPOINTS_LIMIT:
        yield (
            f"it has {len(member.endpoints)} endpoints, more than {ENDPOINTS_LIMIT}",
            "leave in its list those that the other hosts are to use",
        )
    for endpoint in dict.fromkeys(member.endpoints):
        if member.endpoints.count(endpoint) > 1:
            yield (
                f"it has the endpoint {show_endpoint(endpoint)} more than once",
                "name each once in its list, the preferred one first",
            )
        address = endpoint[0]
        if any(address in network for network in member.networks):
            yield (
                f"its endpoint {address} lies in brine_networks, which only the mesh reaches",
                "set brine_endpoint to its address on the underlay",
            )
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            yield (
                f"its endpoint is {address}, which other hosts cannot reach",
                "set brine_endpoint to its address on the underlay",
            )


def shared(
    members: Iterable[Member], values_of: Callable[[Member], Iterable[t.Any]]
) -> t.Iterator[tuple[t.Any, list[str]]]:
    """Values that more than one member has, with the names of those that do."""
    owners: dict[t.Any, list[str]] = {}
    for member in members:
        for value in dict.fromkeys(values_of(member)):
            owners.setdefault(value, []).append(member.name)
    return ((value, names) for value, names in owners.items() if len(names) > 1)


def render_roster(members: list[Member]) -> str:
    """The roster: sorted, so that the same members always give the same bytes."""
    networks = members[0].networks if members else ()
    roster = {
        "version": ROSTER_VERSION,
        "networks": [str(network) for network in networks],
        "peers": [
            member.roster_entry() for member in sorted(members, key=lambda member: member.name)
        ],
        **(
            {"links": [list(link) for link in members[0].links]}
            if members and members[0].links
            else {}
        ),
    }
    return json.dumps(roster, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
