# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user of a tunnel meets: the scenarios of WireGuard's netns.sh that apply here.
docs/scenarios.md has the table."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from brine import identity, keys
from brine.config import DEVICE
from brine.errors import BrineError
from brine.maps import Maps
from brine.roster import Address
from tests.bpf import packets
from tests.integration.conftest import Make
from tests.integration.hosts import PORT, Host, eventually, roster_of
from tests.integration.namespaces import Switch
from tests.integration.steps import address_of
from tests.integration.test_attacks import device
from tests.integration.test_attacks_exchange import LOW_ORDER
from tests.integration.test_mesh import confirmed
from tests.integration.wire import from_host, listener, silent, stats

LAN = "198.51.100.0/24"


def edited(hosts: list[Host], **changes: dict[str, Any]) -> str:
    """The roster of `hosts`, with other values in the entries of those named."""
    roster = json.loads(roster_of(hosts))
    for entry in roster["peers"]:
        entry.update(changes.get(entry["name"], {}))
    return json.dumps(roster)


def distribute(hosts: list[Host], roster: str) -> None:
    """As the role peers does."""
    for host in hosts:
        host.paths.roster.write_text(roster)
        host.apply_peers()


def transfer(one: Host, two: Host, address: Address, port: int, size: int = 1 << 20) -> None:
    """A stream from `one` to `two` at `address` arrives whole."""
    data = os.urandom(1 << 16) * (size >> 16)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with two.inside(socket.create_server, (str(address), port), family=family) as server:
        server.settimeout(20)
        with ThreadPoolExecutor(1) as pool:

            def take() -> str:
                connection, _ = server.accept()
                connection.settimeout(20)
                digest = hashlib.sha256()
                with connection:
                    while part := connection.recv(1 << 16):
                        digest.update(part)
                return digest.hexdigest()

            taken = pool.submit(take)
            with one.inside(socket.create_connection, (str(address), port), 20) as connection:
                connection.sendall(data)
            assert taken.result() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("version", [4, 6])
def test_pings_and_streams(make: Make, version: int) -> None:
    one, two = make(2, version)
    for address in (two.inner4, two.inner6):
        assert all(one.ping(address) is not None for _ in range(10))
    for address in (one.inner4, one.inner6):
        assert all(two.ping(address) is not None for _ in range(10))
    transfer(one, two, two.inner4, 5001)
    transfer(two, one, one.inner6, 5001)
    with ThreadPoolExecutor(4) as pool:
        flows = [pool.submit(transfer, one, two, two.inner4, 5200 + flow) for flow in range(4)]
        for flow in flows:
            flow.result()


def test_counters(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    before = one.peer(two), two.peer(one)
    for _ in range(10):
        assert one.ping(two.inner4) is not None
    after = one.peer(two), two.peer(one)
    packet = 20 + 8 + 8  # IPv4, ICMP, what verify sends
    for was, now in zip(before, after, strict=True):
        for what in ("sent", "received"):
            assert now[f"{what}_packets"] - was[f"{what}_packets"] == 10
            assert now[f"{what}_bytes"] - was[f"{what}_bytes"] == 10 * packet
        assert now["last_exchange_seconds"] is not None
        assert now["last_received_seconds"] < 20


@pytest.mark.parametrize("version", [4, 6])
def test_large_mtu(make: Make, switch: Switch, version: int) -> None:
    """An underlay of 9000, natively: frames of more than a page."""
    one, two = make(2, version)
    with switch.namespace.entered(), IPRoute() as ip:
        for name in (one.port, two.port, "switch"):
            ip.link("set", ifname=name, mtu=9000)
    for host in (one, two):
        with host.namespace.entered(), IPRoute() as ip:
            ip.link("set", ifname="eth0", mtu=9000)
        host.apply()
        status = host.status()
        assert (status["mtu"], status["xdp_mode"]) == (8920, "native")
    with listener(two) as receiver, one.inside(socket.socket, 2, 2) as sender:
        for size in (1, 1500, 3500, 3600, 4096, 8000, 8920 - 28):
            sender.sendto(os.urandom(size), receiver.getsockname())
            assert len(receiver.recv(1 << 16)) == size
    transfer(one, two, two.inner6, 5001, 4 << 20)


def test_mtu_of_a_route(make: Make) -> None:
    """The stack inside says Packet Too Big, by device or by route; sealing adds no padding."""
    one, two = make(2)
    one.reach(two)
    with one.inside(socket.socket, 2, 2) as sender, listener(two) as receiver:
        sender.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        for mtu in (1420, 1299):
            if mtu != 1420:
                with one.namespace.entered(), IPRoute() as ip:
                    ip.route(
                        "add", dst=f"{two.inner4}/32", oif=ip.link_lookup(ifname=DEVICE)[0],
                        metrics={"mtu": mtu},
                    )  # fmt: skip
            sender.sendto(bytes(mtu - 28), receiver.getsockname())
            assert len(receiver.recv(1 << 16)) == mtu - 28
            with pytest.raises(OSError, match="too long"):
                sender.sendto(bytes(mtu - 27), receiver.getsockname())


@pytest.mark.parametrize("version", [4, 6])
def test_roaming(make: Make, version: int) -> None:
    home, rover = make(2, version, roaming={2})
    rover.reach(home)
    old, new, bits = {
        4: ("192.0.2.2", "192.0.2.212", 24),
        6: ("2001:db8::2", "2001:db8::212", 64),
    }[version]
    address_of(rover, "add", new, bits)
    address_of(rover, "del", old, bits)
    exchanges = home.association(rover)

    def followed() -> bool:
        """home sends to where the rover is"""
        shown = f"[{new}]" if version == 6 else new
        return bool(home.peer(rover)["endpoint"] == f"{shown}:{PORT}")

    eventually(followed)
    assert home.ping(rover.inner4) is not None
    there = home.association(rover)
    assert exchanges is not None
    assert there is not None
    assert there["local_index"] == exchanges["local_index"]  # by data alone


def test_allowed_ips_move_between_peers(make: Make) -> None:
    """The inner source decides: a more specific prefix takes an address from its peer, and
    gives it back."""
    one, two, three = make(3)
    hosts = [one, two, three]
    two.reach(one)
    distribute(hosts, edited(hosts, host2={"allowed_ips": [LAN]}))
    with listener(one) as receiver:
        port = receiver.getsockname()[1]
        text = packets.udp_packet("198.51.100.7", str(one.inner4), b"X", ports=(9, port))
        with device(two) as sender:
            sender.send(packets.ethernet(text))
            assert receiver.recv(9) == b"X"
            distribute(
                hosts,
                edited(
                    hosts,
                    host2={"allowed_ips": [LAN]},
                    host3={"allowed_ips": ["198.51.100.7/32"]},
                ),
            )
            before = stats(one)["open_source"]
            sender.send(packets.ethernet(text))
            eventually(lambda: stats(one)["open_source"] == before + 1, 5, 0.05)
            assert silent(receiver)
            distribute(hosts, edited(hosts, host2={"allowed_ips": [LAN]}))
            sender.send(packets.ethernet(text))
            assert receiver.recv(9) == b"X"


def test_new_identity_at_once(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    two.kill()
    text = base64.b64encode(keys.generate_private()).decode() + "\n"
    two.paths.identity.write_text(text)
    two.public = identity.load(two.paths).public
    two.inner6 = keys.overlay_address(two.public)
    distribute([one, two], roster_of([one, two]))
    two.start()
    for address in (two.inner4, two.inner6):
        assert one.ping(address) is not None


def test_endpoint_inside_the_mesh_is_refused(make: Make) -> None:
    """A tunnel through itself would loop."""
    one, two = make(2)
    one.reach(two)
    for change in (
        {"endpoint": f"10.77.0.9:{PORT}"},
        {"endpoint": f"[{two.inner6}]:{PORT}"},
        {"allowed_ips": ["192.0.2.0/24"]},
        {"allowed_ips": ["0.0.0.0/0"]},
    ):
        one.paths.roster.write_text(edited([one, two], host2=change))
        with pytest.raises(BrineError, match="only the mesh would reach it"):
            one.apply_peers()
    assert one.ping(two.inner4) is not None


def test_keepalive_of_the_silent_side(make: Make) -> None:
    """Who received and sent nothing says so within 10 s or a little more, so that the other
    side sees that its packets arrive."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    with one.inside(socket.socket, 2, 2) as sender, listener(two) as receiver:
        time.sleep(0.5)  # times in peer_states are 0.1 s apart: the ping's own are others
        before = stats(one)["open_keepalive"]
        sender.sendto(b"no answer", receiver.getsockname())
        assert receiver.recv(100) == b"no answer"
        eventually(lambda: stats(one)["open_keepalive"] > before, 20, 0.5)


def test_bound_and_marked_sockets(make: Make) -> None:
    """Bound to brine0, or with a mark that policy routing could look at."""
    one, two = make(2)
    one.reach(two)
    with listener(two) as receiver:
        for option, value in ((socket.SO_BINDTODEVICE, DEVICE.encode()), (socket.SO_MARK, 1)):
            with one.inside(socket.socket, 2, 2) as sender:
                sender.setsockopt(socket.SOL_SOCKET, option, value)
                sender.sendto(b"X", receiver.getsockname())
                assert receiver.recv(9) == b"X"


def test_removed_peer_is_unreachable(make: Make, switch: Switch) -> None:
    """Nothing leaves for it: not sealed, and not in the clear."""
    one, two = make(2)
    one.reach(two)
    one.paths.roster.write_text(roster_of([one]))
    one.apply_peers()
    with switch.listen(one.port) as capture:
        assert one.ping(two.inner4, 0.3) is None
        assert one.ping(two.inner6, 0.3) is None
    assert not from_host(capture.frames, one, 1, 4, 5)
    assert not any(two.inner4.packed in frame for frame in capture.frames)
    assert stats(one)["seal_no_route"] >= 1


def test_underlay_address_changes(make: Make, switch: Switch) -> None:
    """A new one in the place of the old; then a second one beside it, which the roster names."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    association = one.association(two)
    assert association is not None
    address_of(one, "add", "192.0.2.10")
    address_of(one, "del", "192.0.2.1")
    distribute([one, two], edited([one, two], host1={"endpoint": f"192.0.2.10:{PORT}"}))
    assert two.ping(one.inner4) is not None
    address_of(one, "add", "192.0.2.11")
    distribute([one, two], edited([one, two], host1={"endpoint": f"192.0.2.11:{PORT}"}))
    with switch.listen(one.port) as capture:
        assert one.ping(two.inner4) is not None
        assert two.ping(one.inner6) is not None
    sources = {frame[26:30] for frame in capture.frames if frame[23:24] == b"\x11"}
    assert sources == {ipaddress.ip_address(a).packed for a in ("192.0.2.11", "192.0.2.2")}
    after = one.association(two)
    assert after is not None
    assert after["local_index"] == association["local_index"]


def test_many_allowed_ips(make: Make) -> None:
    """More than one netlink message holds, on both ways."""
    one, two = make(2)
    many = [f"198.{18 + number // 256}.{number % 256}.0/24" for number in range(500)]
    many += [f"2001:db8:{number:x}::/48" for number in range(256, 756)]
    distribute([one], edited([one, two], host2={"allowed_ips": many}))

    def routed() -> set[str]:
        with Maps.of(one.config) as maps:
            return {str(network) for network in maps.routes()}

    assert set(many) <= routed()
    assert one.ping(two.inner4) is not None
    distribute([one], roster_of([one, two]))
    assert not set(many) & routed()
    with one.namespace.entered(), IPRoute() as ip:
        left = [str(route.get_attr("RTA_DST")) for route in ip.get_routes()]
    assert not {network.partition("/")[0] for network in many} & set(left)


def test_peers_of_low_order_keys(make: Make, switch: Switch) -> None:
    """Public keys with which every secret is zero: no exchange is begun."""
    one, two = make(2)
    roster = json.loads(roster_of([one, two]))
    for number, point in enumerate(LOW_ORDER[1:], 20):  # zeros are no key at all
        roster["peers"].append(
            {
                "name": f"low{number}",
                "public_key": keys.show_key(point),
                "endpoint": f"192.0.2.{number}:{PORT}",
                "addresses": [f"10.77.1.{number}"],
                "allowed_ips": [],
                "roaming": False,
            }
        )
    distribute([one], json.dumps(roster))
    with switch.listen(one.port) as capture:
        for number in range(20, 20 + len(LOW_ORDER) - 1):
            assert one.ping(ipaddress.ip_address(f"10.77.1.{number}"), 0.1) is None
        eventually(lambda: one.log.count("no exchange is possible") >= len(LOW_ORDER) - 1)
    assert not from_host(capture.frames, one, 1, 2, 3, 4, 5)
    assert one.ping(two.inner4) is not None
    roster["peers"][-1]["public_key"] = keys.show_key(LOW_ORDER[0])
    one.paths.roster.write_text(json.dumps(roster))
    with pytest.raises(BrineError, match="public key"):
        one.apply_peers()


@pytest.mark.parametrize("name", [DEVICE, "eth0"])
def test_interface_down_and_up(make: Make, name: str) -> None:
    one, two = make(2)
    one.reach(two)
    with one.namespace.entered(), IPRoute() as ip:
        ip.link("set", ifname=name, state="down")
        assert one.ping(two.inner4, 0.2) is None
        ip.link("set", ifname=name, state="up")
    if name == DEVICE:
        one.apply()  # routes through a device go with it: what the unit does
    one.reach(two)
    assert two.ping(one.inner4) is not None


def test_namespace_goes_with_a_live_device(
    make: Make, switch: Switch, tmp_path: Path, bpffs: Path, bpf_object: Path
) -> None:
    (one,) = make(1)
    other = Host(switch, 2, tmp_path / "other", bpffs, bpf_object)
    distribute([one], roster_of([one, other]))
    other.configure(roster_of([one, other]))
    other.apply()
    other.start()
    one.reach(other)
    other.close()  # the daemon is killed, the namespace has no user left

    def gone() -> bool:
        """the kernel has ended the namespace and every device in it"""
        with switch.namespace.entered(), IPRoute() as ip:
            return not ip.link_lookup(ifname=other.port)

    eventually(gone)
    assert one.ping(other.inner4) is None
    assert one.status_of_daemon()["running"]
