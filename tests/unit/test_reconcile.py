# SPDX-License-Identifier: GPL-3.0-or-later
"""What a roster means for one host's tables. The kernel's part: tests/integration."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brine import plan, sources
from brine.errors import BrineError
from brine.keys import key_id, show_key
from brine.plan import Device, Tables
from brine.records import RouteValues
from brine.roster import Endpoint, Roster, parse, parse_endpoint
from brine.sources import Sources

VALUES = RouteValues(own=0xFFFFFFFE, nobody=0xFFFFFFFF, outside=1 << 30)
NETWORKS = ["10.77.0.0/16", "fd62:7269:6e65::/48"]
NAMES = {bytes([number]) * 32: f"web{number}" for number in range(1, 250)}


def entry(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"web{number}",
        "public_key": show_key(bytes([number]) * 32),
        "endpoint": f"192.0.2.{number}:4747",
        "addresses": [f"10.77.0.{number}"],
        "allowed_ips": [],
        "roaming": False,
        **changes,
    }


def roster(*entries: dict[str, Any], networks: Iterable[str] = NETWORKS) -> Roster:
    return parse(json.dumps({"version": 1, "networks": [*networks], "peers": entries}))


def tables(members: Roster, current: Tables | None = None, max_peers: int = 64) -> Tables:
    """Of the host web1."""
    own = members.find(b"\1" * 32)
    return plan.plan_tables(members, own, current or Tables(), max_peers, VALUES)


def network(text: str) -> Any:
    return ipaddress.ip_network(text)


def test_each_prefix_has_its_value() -> None:
    made = tables(roster(entry(1), entry(2), entry(3, allowed_ips=["192.168.3.0/24"])))
    two = next(peer.number for peer in made.peers.values() if peer.identity == b"\2" * 32)
    three = next(peer.number for peer in made.peers.values() if peer.identity == b"\3" * 32)
    assert made.routes == {
        network("10.77.0.0/16"): VALUES.nobody,
        network("fd62:7269:6e65::/48"): VALUES.nobody,
        network("10.77.0.1/32"): VALUES.own,
        network("10.77.0.2/32"): two,
        network("10.77.0.3/32"): three,
        network("192.168.3.0/24"): three + VALUES.outside,
    }
    assert made.endpoints == {
        ipaddress.ip_address("192.0.2.2"): two,
        ipaddress.ip_address("192.0.2.3"): three,
    }


@pytest.mark.parametrize(
    ("prefix", "outside"),
    [
        ("10.77.128.0/17", False),
        ("10.0.0.0/8", True),  # contains the network
        ("fd62:7269:6e65:1::/64", False),
        ("2001:db8::/32", True),
    ],
)
def test_prefixes_outside_the_networks_are_marked(prefix: str, outside: bool) -> None:
    made = tables(roster(entry(1), entry(2, allowed_ips=[prefix])))
    assert made.routes[network(prefix)] == (VALUES.outside if outside else 0)
    assert VALUES.peer(made.routes[network(prefix)]) == 0


def test_own_allowed_ips_are_nobody_elses_and_not_sealed() -> None:
    made = tables(roster(entry(1, allowed_ips=["192.168.1.0/24"]), entry(2)))
    assert network("192.168.1.0/24") not in made.routes


def test_entries_without_a_key_are_left_out() -> None:
    made = tables(roster(entry(1), entry(2, public_key=None), entry(3)))
    assert [peer.identity for peer in made.peers.values()] == [b"\3" * 32]
    assert network("10.77.0.2/32") not in made.routes
    assert ipaddress.ip_address("192.0.2.2") not in made.endpoints


def test_a_changed_key_is_another_peer() -> None:
    before = tables(roster(entry(1), entry(2), entry(3)))
    after = tables(roster(entry(1), entry(2, public_key=show_key(b"\x22" * 32)), entry(3)), before)
    old = next(peer.number for peer in before.peers.values() if peer.identity == b"\2" * 32)
    new = next(peer.number for peer in after.peers.values() if peer.identity == b"\x22" * 32)
    assert new != old
    assert after.routes[network("10.77.0.2/32")] == new


@given(
    st.lists(st.sets(st.integers(2, 40), max_size=12), min_size=1, max_size=8),
)
@settings(deadline=None)
def test_numbers_are_stable_and_unique(rosters: list[set[int]]) -> None:
    current = Tables()
    for members in rosters:
        new = tables(roster(entry(1), *(entry(number) for number in sorted(members))), current, 12)
        before = {peer.identity: peer.number for peer in current.peers.values()}
        after = {peer.identity: peer.number for peer in new.peers.values()}
        assert set(after) == {bytes([number]) * 32 for number in members}
        assert len(set(after.values())) == len(after)
        assert all(0 <= number < 12 for number in after.values())
        assert all(after[each] == before[each] for each in after.keys() & before.keys())
        current = new


def test_a_new_peer_takes_no_number_of_one_that_leaves_while_there_are_others() -> None:
    before = tables(roster(entry(1), entry(2), entry(3)), max_peers=4)
    after = tables(roster(entry(1), entry(3), entry(4)), before, 4)
    left = set(before.peers) - {p.number for p in after.peers.values() if p.identity[0] == 3}
    assert {p.number for p in after.peers.values() if p.identity[0] == 4}.isdisjoint(left)
    full = tables(roster(entry(1), *(entry(n) for n in (4, 5, 6, 7))), after, 4)
    assert sorted(full.peers) == [0, 1, 2, 3]


def test_too_many_peers() -> None:
    with pytest.raises(BrineError, match="has 3 peers, but max_peers is 2") as failure:
        tables(roster(*(entry(number) for number in (1, 2, 3, 4))), max_peers=2)
    assert "brine_max_peers" in failure.value.next_step


def test_a_roaming_peer_keeps_the_endpoint_it_was_heard_from() -> None:
    members = roster(entry(1), entry(2, roaming=True))
    before = tables(members)
    heard = parse_endpoint("198.51.100.9:999")
    moved = Tables(
        {n: dataclasses.replace(p, endpoint=heard) for n, p in before.peers.items()},
        before.routes,
        before.endpoints,
    )
    after = tables(members, moved)
    assert [peer.endpoint for peer in after.peers.values()] == [heard]
    assert set(map(str, after.endpoints)) == {"192.0.2.2", "198.51.100.9"}
    (line,) = plan.peer_lines(after, VALUES, NAMES).values()
    assert "endpoint 198.51.100.9:999 or 192.0.2.2 roaming" in line
    pinned = tables(roster(entry(1), entry(2)), moved)
    assert [str(peer.endpoint) for peer in pinned.peers.values()] == ["192.0.2.2:4747"]


BOTH = ["192.0.2.2:4747", "[2001:db8::2]:4747"]


@pytest.mark.parametrize(
    ("families", "used"),
    [((4, 6), BOTH[0]), ((4,), BOTH[0]), ((6,), BOTH[1]), ((), BOTH[0])],
)
def test_the_first_endpoint_of_a_family_that_the_host_has(
    families: tuple[int, ...], used: str
) -> None:
    members = roster(entry(1), entry(2, endpoint=BOTH))
    made = plan.plan_tables(members, members.entries[0], Tables(), 64, VALUES, families)
    assert [str(peer.endpoint) for peer in made.peers.values()] == [used]
    assert set(map(str, made.endpoints)) == {"192.0.2.2", "2001:db8::2"}  # it may send from both


def test_another_order_changes_nothing_for_a_peer_that_is_reached() -> None:
    before = tables(roster(entry(1), entry(2, endpoint=BOTH)))
    turned = roster(entry(1), entry(2, endpoint=BOTH[::-1]))
    assert tables(turned, before) == before
    assert [str(peer.endpoint) for peer in tables(turned).peers.values()] == [BOTH[1]]


def test_an_endpoint_that_is_listed_no_more_is_left() -> None:
    before = tables(roster(entry(1), entry(2, endpoint=BOTH)))
    after = tables(roster(entry(1), entry(2, endpoint=BOTH[1:])), before)
    assert [str(peer.endpoint) for peer in after.peers.values()] == [BOTH[1]]
    assert list(map(str, after.endpoints)) == ["2001:db8::2"]


ENDPOINTS = st.lists(
    st.sampled_from(["192.0.2.2:1", "192.0.2.3:1", "[2001:db8::2]:1", "[2001:db8::3]:1"]),
    unique=True,
    max_size=4,
)


@given(ENDPOINTS, ENDPOINTS, st.frozensets(st.sampled_from([4, 6])), st.booleans())
def test_the_choice_of_an_endpoint(
    listed: list[str], now: list[str], families: frozenset[int], roaming: bool
) -> None:
    members = roster(entry(1), entry(2, endpoint=listed, roaming=roaming))
    used = parse_endpoint(now[0]) if now else None
    chosen = plan.choose_endpoint(members.entries[1], used, families)
    texts = [text for text in listed if parse_endpoint(text).address.version in families]
    if used is not None and (roaming or str(used) in texts):
        assert chosen == used  # never moved without need
    elif listed:
        assert str(chosen) == (texts or listed)[0]
    else:
        assert chosen is None
    # and a second look changes nothing
    assert plan.choose_endpoint(members.entries[1], chosen, families) == chosen


def test_two_peers_behind_one_address() -> None:
    made = tables(
        roster(entry(1), entry(2, endpoint="192.0.2.9:1"), entry(3, endpoint="192.0.2.9:2"))
    )
    assert list(map(str, made.endpoints)) == ["192.0.2.9"]


@pytest.mark.parametrize("owner", [0, 1])
def test_whose_an_address_of_two_is_stays_as_it_is(owner: int) -> None:
    """brined lists who has moved there last."""
    members = roster(entry(1), entry(2, endpoint="192.0.2.9:1"), entry(3, endpoint="192.0.2.9:2"))
    made = tables(members)
    assert set(made.peers) == {0, 1}
    endpoints = dict.fromkeys(made.endpoints, owner)
    assert tables(members, dataclasses.replace(made, endpoints=endpoints)).endpoints == endpoints


def test_the_device_has_addresses_and_routes_with_sources() -> None:
    members = roster(
        entry(
            1,
            addresses=["10.78.0.1", "10.77.0.1", "fd62:7269:6e65::1"],
            allowed_ips=["10.9.0.0/24"],
        ),
        entry(2, allowed_ips=["192.168.2.0/24", "2001:db8:2::/48"]),
        networks=[*NETWORKS, "10.78.0.0/16"],
    )
    device, notes = plan.plan_device(members, members.entries[0])
    assert {str(address) for address in device.addresses} == {
        "10.78.0.1/32",
        "10.77.0.1/32",
        "fd62:7269:6e65::1/128",
    }
    found = {str(net): (str(via.source), via.outside) for net, via in device.routes.items()}
    assert found == {
        "10.77.0.0/16": ("10.77.0.1", False),
        "10.78.0.0/16": ("10.78.0.1", False),
        "fd62:7269:6e65::/48": ("fd62:7269:6e65::1", False),
        "192.168.2.0/24": ("10.78.0.1", True),
        "2001:db8:2::/48": ("fd62:7269:6e65::1", True),
    }
    assert notes == []


def test_a_network_without_an_own_address_stays_closed() -> None:
    members = roster(entry(1, addresses=["fd62:7269:6e65::1"]), entry(2))
    device, notes = plan.plan_device(members, members.entries[0])
    assert [str(each) for each in device.routes] == ["fd62:7269:6e65::/48"]
    assert notes == ["web1 has no IPv4 address in the mesh: 10.77.0.0/16 is out of its reach"]


@pytest.mark.parametrize(
    ("usable", "endpoint", "ipv4", "ipv6"),
    [
        (["192.0.2.1"], "192.0.2.1:1", "192.0.2.1", None),
        (["192.0.2.1", "192.0.2.2"], "192.0.2.2:1", "192.0.2.2", None),
        (["192.0.2.1", "192.0.2.2"], "203.0.113.1:1", "192.0.2.1", None),  # behind a translator
        (["192.0.2.1", "2001:db8::1"], "192.0.2.1:1", "192.0.2.1", "2001:db8::1"),
        (["2001:db8::1", "2001:db8::2"], "[2001:db8::2]:1", None, "2001:db8::2"),
        (["2001:db8::1", "2001:db8::2"], None, None, None),
        ([], None, None, None),
    ],
)
def test_sources(
    usable: list[str], endpoint: str | None, ipv4: str | None, ipv6: str | None
) -> None:
    chosen = sources.choose(
        [ipaddress.ip_address(text) for text in usable],
        [parse_endpoint(endpoint)] if endpoint else [],
    )
    shown = [str(each) if each else None for each in (chosen.ipv4, chosen.ipv6)]
    assert shown == [ipv4, ipv6]


def test_the_source_is_the_first_of_the_own_endpoints_or_that_in_use() -> None:
    usable = [*map(ipaddress.ip_address, ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"))]
    listed = ("192.0.2.2:1", "[2001:db8::1]:1", "192.0.2.1:1")
    own = [parse_endpoint(text) for text in listed]

    def chosen(now: str | None, *there: Any) -> tuple[str, str]:
        source = Sources(ipaddress.ip_address(now)) if now else None
        found = sources.choose(there, own, source)
        return str(found.ipv4), str(found.ipv6)

    assert chosen(None, *usable) == ("192.0.2.2", "2001:db8::1")
    assert chosen("192.0.2.1", *usable) == ("192.0.2.1", "2001:db8::1")  # peers send there
    assert chosen("192.0.2.3", *usable) == ("192.0.2.2", "2001:db8::1")  # the roster names others
    assert chosen("192.0.2.2", *usable[:1]) == ("192.0.2.1", "None")


def test_peers_of_a_family_that_the_host_has_not() -> None:
    made = tables(roster(entry(1), entry(2), entry(3, endpoint="[2001:db8::3]:4747")))
    only4 = Sources(ipv4=ipaddress.ip_address("192.0.2.1"))
    assert plan.unreachable(made, only4, NAMES) == [
        "the interface has no IPv6 address to send from, which web3 would need"
    ]


def test_what_would_lock_out_or_leak_is_refused() -> None:
    members = roster(entry(1), entry(2, allowed_ips=["192.168.2.0/24"]))
    plan.refuse_lock_out(members, [ipaddress.ip_address("192.168.2.7")])  # may be met in the clear
    with pytest.raises(BrineError, match=r"10\.77\.3\.3 lies in 10\.77\.0\.0/16"):
        plan.refuse_lock_out(members, [ipaddress.ip_address("10.77.3.3")])
    plan.refuse_leaks(members, [(network("10.0.0.0/8"), "eth1"), (network("10.78.0.0/16"), "eth1")])
    with pytest.raises(BrineError, match=r"10\.77\.5\.0/24.*eth1.*in the clear"):
        plan.refuse_leaks(members, [(network("10.77.5.0/24"), "eth1")])


def test_the_text_is_for_people_and_sorted() -> None:
    members = roster(
        entry(1),
        entry(3, endpoint=None, roaming=True),
        entry(2, allowed_ips=["192.168.2.0/24"]),
    )
    made = tables(members)
    device, _ = plan.plan_device(members, members.entries[0])
    sources = Sources(ipv4=ipaddress.ip_address("192.0.2.1"))
    text = plan.describe(made, device, sources, VALUES, NAMES)
    two, three = key_id(b"\2" * 32), key_id(b"\3" * 32)
    assert text.splitlines() == [
        "network 10.77.0.0/16",
        "network fd62:7269:6e65::/48",
        "own 10.77.0.1/32",
        "source 192.0.2.1",
        "address 10.77.0.1/32",
        "route 10.77.0.0/16 from 10.77.0.1",
        "route 192.168.2.0/24 from 10.77.0.1",
        f"peer web2 {two} endpoint 192.0.2.2:4747 allowed 10.77.0.2/32, 192.168.2.0/24",
        f"peer web3 {three} endpoint unknown roaming allowed 10.77.0.3/32",
        "endpoint 192.0.2.2 is web2's",
    ]
    assert plan.describe(Tables(), Device(), Sources(), VALUES, {}) == ""


def test_who_is_not_in_the_roster_is_shown_by_key() -> None:
    assert plan.show_name(b"\2" * 32, {}) == key_id(b"\2" * 32)
    assert plan.show_name(b"\2" * 32, NAMES) == "web2"


def test_endpoints_compare_by_value() -> None:
    assert Endpoint(ipaddress.ip_address("192.0.2.1"), 1) == parse_endpoint("192.0.2.1:1")
