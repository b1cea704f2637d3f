# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the roster."""

from __future__ import annotations

import copy
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from brine.errors import BrineError
from brine.keys import show_key
from brine.roster import Endpoint, Roster, load, parse, parse_endpoint

KEYS = [bytes([number]) * 32 for number in range(1, 6)]


def entry(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"web{number}",
        "public_key": show_key(KEYS[number]),
        "endpoint": f"192.0.2.{number}:4747",
        "addresses": [f"10.77.0.{number}", f"fd62:7269:6e65::{number}"],
        "allowed_ips": [],
        "roaming": False,
        **changes,
    }


def read(*entries: dict[str, Any], **changes: Any) -> Roster:
    networks = ["10.77.0.0/16", "fd62:7269:6e65::/48"]
    given = {"version": 1, "networks": networks, "peers": list(entries), **changes}
    return parse(json.dumps(given))


def test_entries() -> None:
    roster = read(
        entry(1),
        entry(2, endpoint="[2001:db8::2]:51820", allowed_ips=["192.168.2.0/24"], roaming=True),
        entry(3, public_key=None, endpoint=None),
    )
    one, two, three = roster.entries
    assert one.endpoints == (Endpoint(ipaddress.ip_address("192.0.2.1"), 4747),)
    assert list(map(str, two.endpoints)) == ["[2001:db8::2]:51820"]
    assert two.roaming
    assert [str(prefix) for prefix in two.prefixes] == [
        "10.77.0.2/32",
        "fd62:7269:6e65::2/128",
        "192.168.2.0/24",
    ]
    assert three.public_key is None
    assert three.endpoints == ()
    assert [str(network) for network in roster.networks] == ["10.77.0.0/16", "fd62:7269:6e65::/48"]


def test_a_host_finds_itself_and_its_peers() -> None:
    roster = read(entry(1), entry(2), entry(3, public_key=None))
    assert roster.own(KEYS[1]).name == "web1"
    assert [peer.name for peer in roster.peers(KEYS[1])] == ["web2"]
    with pytest.raises(BrineError, match="no entry with this host's public key"):
        roster.own(KEYS[0])


def test_several_endpoints_keep_their_order() -> None:
    texts = ["[2001:db8::1]:4747", "192.0.2.1:4747", "192.0.2.101:4747"]
    one, two, three = read(
        entry(1, endpoint=texts), entry(2, endpoint=[]), entry(3, endpoint=["192.0.2.3:4747"])
    ).entries
    assert list(map(str, one.endpoints)) == texts
    assert two.endpoints == ()
    assert list(map(str, three.endpoints)) == ["192.0.2.3:4747"]


@pytest.mark.parametrize("text", ["192.0.2.1:1", "[2001:db8::1]:65535"])
def test_endpoints_are_shown_as_they_are_read(text: str) -> None:
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x", "2001:db8::1:4747",
        "[192.0.2.1]:4747", "host:4747", ":4747", "", "[2001:db8::1]",
    ],
)  # fmt: skip
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="not an address and a port"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"public_key": "AAAA"}, "web1: its public key has 3 bytes instead of 32"),
        ({"public_key": 5}, "web1: public_key is neither a string nor null"),
        ({"endpoint": "here"}, "web1: endpoint 'here'"),
        ({"addresses": ["10.77.0.0/24"]}, "web1: '10.77.0.0/24' is not an address"),
        ({"addresses": "10.77.0.1"}, "web1: addresses is not a list"),
        ({"addresses": ["::ffff:10.77.0.1"]}, "IPv4 in IPv6 clothes"),
        ({"allowed_ips": ["192.168.2.1/24"]}, "web1: 192.168.2.1/24 has host bits set"),
        ({"allowed_ips": [7]}, "web1: 7 is not a network"),
        ({"roaming": "yes"}, "web1: roaming is neither true nor false"),
        ({"name": ""}, "an entry has no name"),
        ({"name": "web2"}, "web2 and web2 have the same name web2"),
        ({"public_key": show_key(KEYS[2])}, "web1 and web2 have the same public key"),
        ({"addresses": ["10.77.0.2"]}, "web1 and web2 have the same prefix 10.77.0.2/32"),
        ({"allowed_ips": ["10.77.0.2/32"]}, "web1 and web2 have the same prefix 10.77.0.2/32"),
        ({"endpoint": "192.0.2.2:4747"}, "web1 and web2 have the same endpoint"),
        ({"endpoint": 7}, "web1: endpoint is neither a string nor a list of strings nor null"),
        ({"endpoint": ["192.0.2.1:1", None]}, "web1: endpoint is neither a string nor a list"),
        ({"endpoint": ["192.0.2.1:1", "here"]}, "web1: endpoint 'here'"),
        ({"endpoint": ["192.0.2.1:1", "192.0.2.1:1"]}, "web1: it has one endpoint twice"),
        ({"endpoint": [f"192.0.2.1:{port}" for port in range(1, 6)]}, "web1: it has 5 endpoints"),
        ({"endpoint": ["192.0.2.9:1", "192.0.2.2:4747"]}, "web1 and web2 have the same endpoint"),
        ({"endpoint": ["192.0.2.9:1", "10.77.9.9:1"]}, "contains web1's endpoint 10.77.9.9"),
        ({"endpoint": "10.77.9.9:4747"}, "10.77.0.0/16 of networks contains web1's endpoint"),
        ({"allowed_ips": ["192.0.2.0/24"]}, "web1's allowed IPs contains web1's endpoint"),
        ({"allowed_ips": ["0.0.0.0/0"]}, "0.0.0.0/0 of web1's allowed IPs contains"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(entry(1, **changes), entry(2))


@pytest.mark.parametrize("missing", ["roaming", "addresses", "allowed_ips"])
def test_an_entry_lacks_something(missing: str) -> None:
    given = entry(1)
    del given[missing]
    with pytest.raises(ValueError, match=f"web1: {missing} is"):
        read(given)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "its version is 2, not 1"),
        ({"networks": None}, "networks is not a list"),
        ({"peers": {}}, "peers is not a list"),
        ({"networks": ["10.77.0.1/16"]}, "host bits set"),
    ],
)
def test_the_roster_as_a_whole(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(entry(1), **changes)


def test_order_does_not_matter_for_what_is_found() -> None:
    first, second = entry(1), entry(2)
    turned = copy.deepcopy(read(second, first))
    assert turned.find(KEYS[1]) == read(first, second).find(KEYS[1])


@pytest.mark.parametrize(
    ("content", "cause"), [(None, "there is no"), (b"{}", "malformed"), (b"\xff", "not UTF-8")]
)
def test_a_file_that_will_not_do(tmp_path: Path, content: bytes | None, cause: str) -> None:
    path = tmp_path / "roster.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BrineError, match=cause) as failure:
        load(path)
    assert str(path) in failure.value.cause


# Links


def test_who_may_talk_to_whom() -> None:
    roster = read(
        entry(1, groups=["web"]),
        entry(2, groups=["web", "db"]),
        entry(3, groups=["db"]),
        entry(4, name="web4", public_key=None, groups=["db"]),
        links=[["web", "db"], ["db", "db"]],
    )
    one, two, three, _ = roster.entries
    assert [peer.name for peer in roster.peers(KEYS[1])] == ["web2", "web3"]
    assert [peer.name for peer in roster.peers(KEYS[2])] == ["web1", "web3"]
    assert roster.linked(two, three)
    assert roster.linked(three, two)
    assert not roster.linked(one, one)


def test_without_links_all_may() -> None:
    roster = read(entry(1), entry(2))
    assert roster.linked(*roster.entries)


def test_empty_links_allow_nobody() -> None:
    roster = read(entry(1), entry(2), links=[])
    assert not roster.linked(*roster.entries)
    assert roster.peers(KEYS[1]) == ()


@pytest.mark.parametrize("links", [["web"], [["web"]], [["web", 3]], {"web": "db"}])
def test_malformed_links(links: Any) -> None:
    with pytest.raises(ValueError, match="not"):
        read(entry(1), links=links)
