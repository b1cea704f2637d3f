# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory and the public-key store, as the controller reads and checks them."""

from __future__ import annotations

import base64
import ipaddress
import json
import random
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.brine.mesh.plugins.plugin_utils.address import PREFIX, overlay_address
from ansible_collections.brine.mesh.plugins.plugin_utils.departures import check_store
from ansible_collections.brine.mesh.plugins.plugin_utils.external import external_members
from ansible_collections.brine.mesh.plugins.plugin_utils.members import (
    DEFAULTS,
    ENDPOINTS_LIMIT,
    Member,
    MemberReader,
    check_members,
    render_roster,
)
from ansible_collections.brine.mesh.plugins.plugin_utils.store import Store, parse_key
from brine import keys, roster

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMES = ["a", "b", "c"]


def public_key(number: int) -> str:
    """A public key that is the same every time."""
    private = random.Random(number).randbytes(32)
    return base64.b64encode(keys.public_key(private)).decode()


class Inventory:
    """Three hosts in order, with a store; a test breaks what it wants to see found."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.hostvars: dict[str, dict[str, t.Any]] = {
            name: {
                "brine_endpoint": f"198.51.100.{number}",
                "brine_addresses": [f"10.77.0.{number}"],
            }
            for number, name in enumerate(NAMES, 1)
        }
        for number, name in enumerate(NAMES, 1):
            self.put_key(name, public_key(number))

    def put_key(self, name: str, text: str) -> None:
        (self.store / f"{name}.txt").write_text(text + "\n")

    def members(self) -> tuple[list[Member], list[t.Any]]:
        reader = MemberReader(self.hostvars, str(self.store))
        members = [reader.read(name) for name in self.hostvars]
        return members, reader.findings

    def found(self, made_now: t.Iterable[str] = ()) -> list[t.Any]:
        members, findings = self.members()
        return [*findings, *check_members(members, made_now)]


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path)


def test_a_sound_inventory_has_no_findings(inventory: Inventory) -> None:
    assert inventory.found() == []


def test_brine_reads_what_the_controller_renders(inventory: Inventory) -> None:
    inventory.hostvars["b"].update(brine_allowed_ips=["192.0.2.0/24"], brine_roaming=True)
    members, _ = inventory.members()
    read = roster.parse(render_roster(members))
    assert [entry.name for entry in read.entries] == NAMES
    entry = read.entries[1]
    assert entry.public_key == base64.b64decode(public_key(2))
    assert list(map(str, entry.endpoints)) == ["198.51.100.2:4747"]
    assert entry.addresses == (
        ipaddress.ip_address("10.77.0.2"),
        keys.overlay_address(base64.b64decode(public_key(2))),
    )
    assert entry.allowed_ips == (ipaddress.ip_network("192.0.2.0/24"),)
    assert entry.roaming
    assert list(map(str, read.networks)) == DEFAULTS["brine_networks"]


def test_several_endpoints_reach_the_hosts_in_their_order(inventory: Inventory) -> None:
    given = ["2001:db8::2", "198.51.100.2", "192.0.2.2"]
    inventory.hostvars["b"].update(brine_endpoint=given, brine_port=4748)
    inventory.hostvars["c"].update(brine_endpoint=["198.51.100.3"])
    members, findings = inventory.members()
    assert [*findings, *check_members(members, [])] == []
    text = render_roster(members)
    one, two, three = (list(map(str, entry.endpoints)) for entry in roster.parse(text).entries)
    assert one == ["198.51.100.1:4747"]
    assert two == ["[2001:db8::2]:4748", "198.51.100.2:4748", "192.0.2.2:4748"]
    assert three == ["198.51.100.3:4747"]
    alone = [peer["endpoint"] for peer in json.loads(text)["peers"] if peer["name"] != "b"]
    assert alone == ["198.51.100.1:4747", "198.51.100.3:4747"]  # one is written as one


def test_controller_and_hosts_allow_as_many_endpoints() -> None:
    assert ENDPOINTS_LIMIT == roster.ENDPOINTS_LIMIT


def test_the_order_of_the_inventory_does_not_matter(inventory: Inventory) -> None:
    members, _ = inventory.members()
    assert render_roster(members) == render_roster(members[::-1])


def test_controller_and_hosts_derive_the_same_address() -> None:
    for number in range(20):
        key = base64.b64decode(public_key(number))
        assert overlay_address(key) == keys.overlay_address(key)
        assert overlay_address(key) in PREFIX


def test_defaults_are_those_of_the_role() -> None:
    role = yaml.safe_load((ROLES / "brine/defaults/main.yml").read_text())
    assert {name: role[name] for name in DEFAULTS} == DEFAULTS


def test_a_missing_key_is_a_fault_unless_it_is_made_now(inventory: Inventory) -> None:
    (inventory.store / "b.txt").unlink()
    assert inventory.found(made_now=["b"]) == []
    (found,) = inventory.found(made_now=["a"])
    assert (found["host"], found["check"]) == ("b", "public key")
    assert "--limit" in found["next_step"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("not base64!", "is not base64"),
        ("", "has 0 bytes instead of 32"),
        (base64.b64encode(bytes(31)).decode(), "has 31 bytes instead of 32"),
        (base64.b64encode(bytes(32)).decode(), "is all zeros"),
        ("é" * 44, "is not base64"),
    ],
)
def test_a_malformed_key_is_named_with_its_file(
    inventory: Inventory, text: str, cause: str
) -> None:
    inventory.put_key("c", text)
    (found,) = inventory.found(made_now=["c"])
    assert found["host"] == "c"
    assert found["cause"] == f"{inventory.store / 'c.txt'} {cause}"


FAULTS: list[tuple[str, dict[str, t.Any], str]] = [
    # host, its variables, what the only finding says
    ("b", {"brine_addresses": ["10.77.0.1"]}, "a, b have the same address 10.77.0.1"),
    ("b", {"brine_addresses": ["10.77.0.300"]}, "'10.77.0.300' does not appear"),
    ("b", {"brine_addresses": "10.77.0.9"}, "brine_addresses is '10.77.0.9'"),
    ("b", {"brine_addresses": ["10.78.0.2"]}, "10.78.0.2 is in none of brine_networks"),
    ("b", {"brine_addresses": ["10.77.0.0"]}, "10.77.0.0 is no host address of 10.77.0.0/16"),
    ("b", {"brine_addresses": ["10.77.255.255"]}, "10.77.255.255 is no host address"),
    ("b", {"brine_endpoint": "198.51.100.1"}, "a, b have the same endpoint 198.51.100.1:4747"),
    ("b", {"brine_endpoint": ""}, "it has no endpoint and does not roam"),
    ("b", {"brine_endpoint": "10.77.9.9"}, "its endpoint 10.77.9.9 lies in brine_networks"),
    ("b", {"brine_endpoint": "127.0.0.1"}, "its endpoint is 127.0.0.1"),
    ("b", {"brine_endpoint": "no host at all"}, "neither an address nor a name"),
    ("b", {"brine_endpoint": []}, "it has no endpoint and does not roam"),
    ("b", {"brine_endpoint": ["192.0.2.2", ""]}, "'' is neither an address nor a name"),
    ("b", {"brine_endpoint": ["192.0.2.2", "no host"]}, "no host is neither an address nor a name"),
    ("b", {"brine_endpoint": "192.0.2.2, 192.0.2.3"}, "neither an address nor a name"),
    ("b", {"brine_endpoint": {"v4": "192.0.2.2"}}, "neither an address nor a name"),
    ("b", {"brine_endpoint": ["192.0.2.2", "198.51.100.1"]}, "a, b have the same endpoint"),
    (
        "b",
        {"brine_endpoint": ["192.0.2.2", "2001:db8::2", "192.0.2.2"]},
        "it has the endpoint 192.0.2.2:4747 more than once",
    ),
    (
        "b",
        {"brine_endpoint": [f"192.0.2.{number}" for number in range(5)]},
        "it has 5 endpoints, more than 4",
    ),
    (
        "b",
        {"brine_endpoint": ["192.0.2.2", "fd62:7269:6e65::9"]},
        "its endpoint fd62:7269:6e65::9 lies in brine_networks",
    ),
    ("b", {"brine_endpoint": ["192.0.2.2", "::1"]}, "its endpoint is ::1"),
    ("b", {"brine_port": 0}, "brine_port is 0"),
    ("b", {"brine_port": 70000}, "brine_port is 70000"),
    ("b", {"brine_port": "many"}, "brine_port is 'many'"),
    ("b", {"brine_roaming": "perhaps"}, "brine_roaming is 'perhaps'"),
    ("b", {"brine_max_peers": 2}, "brine_max_peers is 2, but the group has 3 hosts"),
    ("b", {"brine_networks": ["10.77.0.0/16"]}, "(derived from its key) is in none"),
    ("b", {"brine_allowed_ips": ["192.0.2.1/24"]}, "192.0.2.1/24 has host bits set"),
    ("b", {"brine_mesh_secret": public_key(9)}, "brine_mesh_secret differs between hosts"),
    ("b", {"brine_mesh_secret": "c2hvcnQ="}, "brine_mesh_secret has 5 bytes"),
]


@pytest.mark.parametrize(("host", "variables", "cause"), FAULTS)
def test_every_fault_is_found(
    inventory: Inventory, host: str, variables: dict[str, t.Any], cause: str
) -> None:
    inventory.hostvars[host].update(variables)
    findings = inventory.found()
    assert any(cause in found["cause"] for found in findings), findings
    assert all(found["fatal"] and found["next_step"] for found in findings)


def test_cloned_machines_are_found_by_their_key(inventory: Inventory) -> None:
    inventory.put_key("b", public_key(1))
    causes = [found["cause"] for found in inventory.found()]
    assert any("a, b have the same public key" in cause for cause in causes)


def test_names_that_differ_in_case_only_are_a_fault(inventory: Inventory) -> None:
    inventory.hostvars["A"] = {
        "brine_endpoint": "198.51.100.4",
        "brine_addresses": ["10.77.0.4"],
    }
    inventory.put_key("A", public_key(4))
    (found,) = inventory.found()
    assert "a, A have the same name" in found["cause"]


def test_the_mesh_secret_shows_up_nowhere(inventory: Inventory) -> None:
    secret = public_key(7)
    for variables in inventory.hostvars.values():
        variables["brine_mesh_secret"] = secret
    inventory.hostvars["c"]["brine_mesh_secret"] = f"{secret[:-4]}!!!!"
    members, _ = inventory.members()
    told = json.dumps(inventory.found()) + repr(members) + render_roster(members)
    assert secret[:16] not in told
    assert repr(base64.b64decode(secret))[2:18] not in told


def test_values_that_ansible_reads_as_text_are_understood(inventory: Inventory) -> None:
    inventory.hostvars["b"].update(brine_port="4748", brine_roaming="yes", brine_max_peers="64")
    members, findings = inventory.members()
    assert findings == []
    assert members[1].endpoints == ((ipaddress.ip_address("198.51.100.2"), 4748),)
    assert members[1].roaming


@pytest.mark.parametrize("text", [public_key(1), f"  {public_key(1)}\n"])
def test_parse_key(text: str) -> None:
    assert parse_key(text) == base64.b64decode(public_key(1))


# The store


def rotating(inventory: Inventory, name: str, which: str, number: int) -> None:
    (inventory.store / f"{name}.{which}.txt").write_text(public_key(number) + "\n")


@pytest.mark.parametrize("which", ["next", "previous"])
def test_a_second_identity_is_in_the_roster(inventory: Inventory, which: str) -> None:
    rotating(inventory, "b", which, 9)
    members, findings = inventory.members()
    assert [*findings, *check_members(members, [])] == []
    entry = roster.parse(render_roster(members)).entries[1]
    first, second = (base64.b64decode(public_key(number)) for number in (2, 9))
    assert entry.public_keys == (first, second)
    assert getattr(entry, f"{which}_public_key") == second
    assert entry.addresses[1:] == (keys.overlay_address(first), keys.overlay_address(second))


def test_a_mesh_that_rotates_nothing_says_nothing_of_it(inventory: Inventory) -> None:
    members, _ = inventory.members()
    assert "next" not in render_roster(members)


def test_two_hosts_with_one_next_key(inventory: Inventory) -> None:
    rotating(inventory, "b", "next", 1)
    assert any("a, b have the same public key" in found["cause"] for found in inventory.found())


def test_a_name_that_ends_as_a_file_of_the_store(inventory: Inventory) -> None:
    inventory.hostvars["b.next"] = {
        "brine_endpoint": "198.51.100.4",
        "brine_addresses": ["10.77.0.4"],
    }
    found = inventory.found(made_now=["b.next"])
    assert any(one["check"] == "name" for one in found)


def store_findings(
    inventory: Inventory, hosts: list[str], also: t.Iterable[str] = (), **more: t.Any
) -> list[t.Any]:
    """also: counted as removed, and not noted."""
    removed = Store(inventory.store).removed(also)
    there = set(hosts) - set(removed)
    members = [one for one in inventory.members()[0] if one.name in there]
    given = {"made_now": hosts, "percent": 10, "confirmed": False, **more}
    return check_store(Store(inventory.store), removed, hosts, members, **given)


def test_one_host_may_leave_the_group(inventory: Inventory) -> None:
    assert store_findings(inventory, NAMES[:2]) == []


def test_many_may_not_unless_it_is_meant(inventory: Inventory) -> None:
    (found,) = store_findings(inventory, NAMES[:1])
    assert found["fatal"]
    assert "2 of 3 hosts" in found["cause"]
    assert "b, c" in found["cause"]
    assert "-e brine_confirm_removal=true" in found["next_step"]
    assert store_findings(inventory, NAMES[:1], confirmed=True) == []
    assert store_findings(inventory, NAMES[:1], percent=67) == []


def test_a_removed_host_is_kept_out(inventory: Inventory) -> None:
    store = Store(inventory.store)
    store.write(store.remove("b"))
    assert store.text("b") is None
    assert store.hosts() == {"a", "c"}
    (found,) = store_findings(inventory, NAMES, made_now=[])
    assert not found["fatal"]
    (found,) = store_findings(inventory, NAMES)
    assert found["fatal"]
    assert "was removed from the mesh" in found["cause"]
    assert store.remove("b") == {}


def test_a_removed_key_does_not_come_back_under_another_name(inventory: Inventory) -> None:
    store = Store(inventory.store)
    store.write(store.remove("b"))
    inventory.put_key("c", public_key(2))
    (found,) = store_findings(inventory, ["a", "c"])
    assert found["host"] == "c"
    assert "removed with b" in found["cause"]


def test_a_host_that_would_be_removed_counts_as_one(inventory: Inventory) -> None:
    """In check mode nothing notes it; then what is found is what is found afterwards."""
    rotating(inventory, "b", "next", 9)
    inventory.put_key("c", public_key(9))
    store = Store(inventory.store)
    assert store.removed(["b"]) == {"b": {public_key(2), public_key(9)}}
    assert store.removed() == {}
    predicted = store_findings(inventory, NAMES, also=["b"], made_now=["a", "c"])
    assert {(found["host"], found["fatal"]) for found in predicted} == {("b", False), ("c", True)}
    store.write(store.remove("b"))
    assert store.removed() == store.removed(["b"]) == {"b": {public_key(2), public_key(9)}}
    found = store_findings(inventory, ["a", "c"], made_now=["a", "c"])
    assert [one for one in predicted if one["fatal"]] == found


def test_the_store_writes_only_what_differs(inventory: Inventory) -> None:
    store = Store(inventory.store)
    current: dict[str, str | None] = {"current": public_key(1), "next": None, "previous": None}
    assert store.put("a", current) == {}
    changes = store.put("a", {**current, "next": public_key(8)})
    store.write(changes)
    assert list(changes) == [inventory.store / "a.next.txt"]
    store.write(store.put("a", current))
    assert not (inventory.store / "a.next.txt").exists()
    assert set(store.prune(["a", "b"])) == {inventory.store / "c.txt"}


# Selection


def test_links_are_in_the_roster(inventory: Inventory) -> None:
    for name, groups in (("a", ["web", "brine"]), ("b", ["db"]), ("c", ["web"])):
        inventory.hostvars[name].update(brine_links=[["web", "db"]], group_names=groups)
    members, findings = inventory.members()
    assert [*findings, *check_members(members, [])] == []
    read = roster.parse(render_roster(members))
    a, b, c = read.entries
    assert read.linked(a, b)
    assert not read.linked(a, c)
    assert a.groups == {"web"}


@pytest.mark.parametrize(
    ("links", "cause"),
    [
        ("web", "brine_links is 'web'"),
        ([["web"]], "brine_links is [['web']]"),
        ([["web", "dbs"]], "names the group dbs"),
    ],
)
def test_links_that_cannot_be(inventory: Inventory, links: t.Any, cause: str) -> None:
    for variables in inventory.hostvars.values():
        variables.update(brine_links=links, group_names=["web", "db"])
    assert any(cause in found["cause"] for found in inventory.found())


def test_links_that_differ(inventory: Inventory) -> None:
    inventory.hostvars["a"].update(brine_links=[["web", "web"]], group_names=["web"])
    assert any("brine_links differs" in found["cause"] for found in inventory.found())


def with_external(inventory: Inventory, **changes: t.Any) -> tuple[list[Member], list[t.Any]]:
    given = {
        "name": "partner",
        "public_key": public_key(8),
        "endpoint": "[2001:db8::8]:4000",
        "addresses": ["10.77.9.9"],
        **changes,
    }
    for variables in inventory.hostvars.values():
        variables["brine_external_peers"] = [given]
    reader = MemberReader(inventory.hostvars, str(inventory.store))
    members = [reader.read(name) for name in inventory.hostvars]
    members += external_members(reader, members)
    return members, [*reader.findings, *check_members(members, [])]


def test_an_external_peer_is_in_the_roster(inventory: Inventory) -> None:
    members, findings = with_external(inventory)
    assert findings == []
    entry = roster.parse(render_roster(members)).entries[-1]
    assert entry.name == "partner"
    assert entry.public_key == base64.b64decode(public_key(8))
    assert list(map(str, entry.endpoints)) == ["[2001:db8::8]:4000"]
    assert [str(address) for address in entry.addresses] == ["10.77.9.9"]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"name": ""}, "one has no name"),
        ({"public_key": "c2hvcnQ="}, "its public key has 5 bytes"),
        ({"public_key": public_key(1)}, "a, partner have the same public key"),
        ({"endpoint": "example.com:1"}, "its endpoint is 'example.com:1'"),
        ({"endpoint": ""}, "its endpoint is ''"),
        ({"endpoint": []}, "its endpoint is ''"),
        ({"endpoint": ["192.0.2.8:1", "192.0.2.8"]}, "its endpoint is '192.0.2.8'"),
        ({"endpoint": ["192.0.2.8:1", "198.51.100.1:4747"]}, "a, partner have the same endpoint"),
        ({"endpoint": ["192.0.2.8:1"] * 2}, "it has the endpoint 192.0.2.8:1 more than once"),
        ({"addresses": ["10.77.0.1"]}, "a, partner have the same address"),
        ({"adresses": []}, "adresses is nothing that an external peer has"),
    ],
)
def test_external_peers_that_cannot_be(
    inventory: Inventory, changes: dict[str, t.Any], cause: str
) -> None:
    _, findings = with_external(inventory, **changes)
    assert any(cause in found["cause"] for found in findings), findings


def test_an_external_peer_may_roam(inventory: Inventory) -> None:
    members, findings = with_external(inventory, endpoint="", roaming=True)
    assert findings == []
    assert members[-1].endpoints == ()


def test_an_external_peer_may_have_several_endpoints(inventory: Inventory) -> None:
    given = ["192.0.2.8:4000", "[2001:db8::8]:4001"]
    members, findings = with_external(inventory, endpoint=given)
    assert findings == []
    entry = roster.parse(render_roster(members)).entries[-1]
    assert list(map(str, entry.endpoints)) == given
