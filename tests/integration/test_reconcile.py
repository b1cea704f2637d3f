# SPDX-License-Identifier: GPL-3.0-or-later
"""The roster in the maps, on brine0 and in the routes."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import socket
from typing import Any

import pytest
from pyroute2 import IPRoute

from brine.config import DEVICE
from brine.errors import BrineError
from brine.maps import Maps
from brine.netdev import Net
from tests.integration.conftest import Make
from tests.integration.hosts import Host
from tests.integration.namespaces import Switch
from tests.integration.steps import apply, damage_device, everything, reconcile_check


def with_entries(host: Host, **changes: dict[str, Any]) -> dict[str, Any]:
    """Reconcile with entries of the roster changed, checked first: the prediction must be
    what then happens."""
    roster = json.loads(host.paths.roster.read_text())
    for entry in roster["peers"]:
        entry.update(changes.get(entry["name"], {}))
    host.paths.roster.write_text(json.dumps(roster))
    before = everything(host)
    predicted = reconcile_check(host)
    assert everything(host) == before
    done = host.apply_peers()
    assert done == predicted
    again = host.apply_peers()
    assert not again["changed"]
    assert again["added"] == again["updated"] == again["removed"] == []
    return done


def test_first_reconciliation(host: Host) -> None:
    apply(host)
    done = with_entries(host)
    assert done["changed"]
    assert (done["added"], done["updated"], done["removed"]) == (["host2"], [], [])
    assert "guard 10.77.0.0/16" in done["diff"]["before"]
    with host.namespace.entered(), IPRoute() as ip:
        index = socket.if_nametoindex(DEVICE)
        addresses = {
            (item.get_attr("IFA_ADDRESS"), item["prefixlen"]) for item in ip.get_addr(index=index)
        }
        sources = {
            item.get_attr("RTA_DST"): item.get_attr("RTA_PREFSRC")
            for family in (2, 10)
            for item in ip.get_routes(family=family, oif=index, table=254)
        }
    assert addresses == {(str(host.inner4), 32), (str(host.inner6), 128)}
    assert sources == {"10.77.0.0": str(host.inner4), "fd62:7269:6e65::": str(host.inner6)}


def test_endpoint_and_prefixes_change(host: Host) -> None:
    apply(host)
    host.apply_peers()
    moved = with_entries(host, host2={"endpoint": "192.0.2.99:5555"})
    assert moved["updated"] == ["host2"]
    wider = with_entries(host, host2={"allowed_ips": ["192.168.50.0/24"]})
    assert wider["updated"] == ["host2"]
    with Maps.of(host.config) as maps:
        assert [str(peer.endpoint) for peer in maps.peers().values()] == ["192.0.2.99:5555"]
        assert list(map(str, maps.endpoints())) == ["192.0.2.99"]
        values, network = maps.route_values, ipaddress.ip_network("192.168.50.0/24")
        assert maps.routes()[network] == values.outside
    with_entries(host, host2={"allowed_ips": ["192.168.51.0/24"]})
    with host.namespace.entered(), Net() as net:
        found = sorted(str(route.network) for route in net.routes() if route.device is None)
    assert found == ["10.77.0.0/16", "192.168.51.0/24", "fd62:7269:6e65::/48"]


def test_own_addresses_change(host: Host) -> None:
    apply(host)
    host.apply_peers()
    done = with_entries(host, host1={"addresses": ["10.77.1.1", str(host.inner6)]})
    assert done["changed"]
    assert done["updated"] == []
    with host.namespace.entered(), Net() as net:
        link = net.link(DEVICE)
        assert link is not None
        assert {str(each) for each in net.addresses(link.index)} == {
            "10.77.1.1/32",
            f"{host.inner6}/128",
        }
    without = with_entries(host, host1={"addresses": [str(host.inner6)]})
    assert without["notes"] == [
        "host1 has no IPv4 address in the mesh: 10.77.0.0/16 is out of its reach"
    ]
    with host.namespace.entered(), Net() as net:
        kept = {route.network.version: route.device for route in net.routes() if route.device}
    assert set(kept) == {6}


def test_a_peer_whose_key_is_not_known_yet_is_noted(host: Host) -> None:
    apply(host)
    done = with_entries(host, host2={"public_key": None})
    assert done["added"] == []
    assert done["notes"] == ["left out until their public keys are known: host2"]


def test_a_changed_identity_erases_its_associations_only(make: Make) -> None:
    one, two, three = make(3)
    one.reach(two)
    one.reach(three)
    kept = one.association(three)
    one.stop()
    new = "A" * 42 + "E="
    done = with_entries(one, host2={"public_key": new})
    assert done["added"] == ["host2"]
    assert len(done["removed"]) == 1
    with Maps.of(one.config) as maps:
        peers = {peer.identity: number for number, peer in maps.peers().items()}
        assert {item.peer for item in maps.associations()} == {peers[three.public]}
    assert one.ping(three.inner4) is not None
    after = one.association(three)
    assert kept is not None
    assert after is not None
    assert after["local_index"] == kept["local_index"]


def test_nobody_inherits_what_a_run_cut_short_has_left(make: Make) -> None:
    one, two, three = make(3)
    one.reach(two)
    one.reach(three)
    one.stop()
    roster = json.loads(one.paths.roster.read_text())
    with Maps.of(one.config) as maps:
        number = next(n for n, peer in maps.peers().items() if peer.identity == two.public)
        maps._zero("peers", [number])  # the first thing that removal does
        assert number in {item.peer for item in maps.associations()}
        roster["peers"][1]["public_key"] = "A" * 42 + "E="
        one.paths.roster.write_text(json.dumps(roster))
        one.apply_peers()
        assert number not in {item.peer for item in maps.associations()}
    assert one.ping(three.inner4) is not None


def test_a_moved_prefix_has_one_owner_at_any_time(host: Host, switch: Switch) -> None:
    apply(host)
    host.apply_peers()
    other = json.loads(host.paths.roster.read_text())
    third = dict(other["peers"][1])
    third |= {"name": "host3", "public_key": "A" * 42 + "I=", "endpoint": "192.0.2.3:4747"}
    third["addresses"] = ["10.77.0.3"]
    other["peers"].append(third)
    host.paths.roster.write_text(json.dumps(other))
    assert with_entries(host)["added"] == ["host3"]
    swapped = with_entries(
        host, host2={"addresses": ["10.77.0.3"]}, host3={"addresses": ["10.77.0.2"]}
    )
    assert swapped["updated"] == ["host2", "host3"]


def test_a_roaming_peer_keeps_what_was_learned(host: Host) -> None:
    apply(host)
    with_entries(host, host2={"roaming": True})
    with Maps.of(host.config) as maps:
        ((number, peer),) = maps.peers().items()
        learned = dataclasses.replace(peer.endpoint, port=999)  # type: ignore[type-var]
        maps.write_peer(number, peer.identity, learned, roaming=True)
    assert not reconcile_check(host)["changed"]
    assert with_entries(host, host2={"roaming": False})["updated"] == ["host2"]


def test_what_would_lock_out_or_leak_is_refused(host: Host) -> None:
    apply(host)
    roster = json.loads(host.paths.roster.read_text())
    for entry in roster["peers"]:
        entry["endpoint"] = None
    wide = {**roster, "networks": ["192.0.2.0/24", *roster["networks"]]}
    host.paths.roster.write_text(json.dumps(wide))
    with pytest.raises(BrineError, match=r"192\.0\.2\.1 lies in 192\.0\.2\.0/24.*cut off"):
        host.apply_peers()
    host.paths.roster.write_text(json.dumps(roster))
    with host.namespace.entered(), IPRoute() as ip:
        ip.route("add", dst="10.77.5.0/24", oif=socket.if_nametoindex("eth0"))
    with pytest.raises(BrineError, match=r"10\.77\.5\.0/24.*eth0.*in the clear"):
        host.apply_peers()
    with Maps.of(host.config) as maps:
        assert maps.peers() == {}


def test_a_host_that_is_not_in_the_roster(host: Host) -> None:
    apply(host)
    roster = json.loads(host.paths.roster.read_text())
    roster["peers"] = [entry for entry in roster["peers"] if entry["name"] != "host1"]
    host.paths.roster.write_text(json.dumps(roster))
    with pytest.raises(BrineError, match="no entry with this host's public key"):
        host.apply_peers()
    predicted = reconcile_check(host)
    assert predicted["added"] == ["host2"]
    assert "this host is not in the roster yet" in predicted["notes"]


def test_without_data_path(host: Host) -> None:
    with pytest.raises(BrineError, match="the data path is not loaded"):
        host.apply_peers()
    assert reconcile_check(host)["added"] == ["host2"]
    apply(host)
    host.inside(damage_device, host)
    with pytest.raises(BrineError, match="brine0 is not there"):
        host.apply_peers()


def test_an_interface_without_address(host: Host) -> None:
    apply(host)
    with host.namespace.entered(), IPRoute() as ip:
        ip.flush_addr(index=socket.if_nametoindex("eth0"))
    with pytest.raises(BrineError, match="eth0 has no address to send from"):
        host.apply_peers()
