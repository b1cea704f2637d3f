# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting up, replacing and taking away the data path: real devices, programs and pins."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import ipaddress
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import IoctlEthtool

from brine import config as configuration
from brine import dataplane, doctor, guard, libbpf, loader, pins, reconcile
from brine.config import DEVICE, INSIDE, Config
from brine.errors import BrineError
from brine.libbpf import Map, Object
from brine.maps import Maps
from brine.netdev import GUARD_METRIC, Net
from tests.integration.conftest import Make
from tests.integration.hosts import PORT, Host, eventually, roster_of
from tests.integration.namespaces import Switch

PATTERN = b"in the clear, of all things"


@pytest.fixture
def host(switch: Switch, tmp_path: Path, bpffs: Path, bpf_object: Path) -> Iterator[Host]:
    """A configured host in a roster with one peer, nothing applied."""
    made = Host(switch, 1, tmp_path / "host", bpffs, bpf_object)
    other = Host(switch, 2, tmp_path / "other", bpffs, bpf_object)
    made.configure(roster_of([made, other]))
    yield made
    made.forget()
    made.close()
    other.close()


def apply(host: Host, check: bool = False, **changes: Any) -> dict[str, Any]:
    """`brine dataplane apply` under a configuration with these changes."""
    return host.inside(dataplane.apply, changed(host, **changes), check)


def changed(host: Host, **changes: Any) -> Config:
    settings = json.loads(host.paths.config.read_text())
    host.paths.config.write_text(json.dumps({**settings, **changes}))
    return configuration.load(host.paths)


def everything(host: Host) -> list[str]:
    """Devices, addresses, routes and pins of the host, as text."""
    with host.namespace.entered(), IPRoute() as ip:
        found = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
        found += [str(item.get_attr("IFA_ADDRESS")) for item in ip.get_addr()]
        found += [
            f"{item['type']} {item.get_attr('RTA_DST')}/{item['dst_len']}"
            for family in (2, 10)
            for item in ip.get_routes(family=family)
        ]
    found += [str(path) for path in host.config.bpffs.rglob("*")]
    return sorted(found)


def id_of(directory: Path, name: str) -> int:
    with contextlib.closing(Map.pinned(str(directory / name))) as item:
        return item.id


# Setting up


def test_check_predicts_and_changes_nothing(host: Host) -> None:
    before = everything(host)
    predicted = apply(host, check=True)
    assert everything(host) == before
    assert predicted["changed"]
    assert predicted["xdp_mode"] is predicted["mtu"] is None
    done = apply(host, xdp_mode="native")
    assert done["diff"] == predicted["diff"]
    assert (done["xdp_mode"], done["mtu"]) == ("native", 1420)
    for check in (True, False):
        again = apply(host, check)
        assert not again["changed"]
        assert again["diff"]["before"] == again["diff"]["after"] == done["diff"]["after"]
        assert (again["xdp_mode"], again["mtu"]) == ("native", 1420)


def test_devices(host: Host) -> None:
    apply(host)
    with host.namespace.entered():
        with Net() as net:
            device, inside = net.link(DEVICE), net.link(INSIDE)
            assert device is not None
            assert inside is not None
            assert device.up
            assert inside.up
            assert not device.arp
            assert device.mtu == inside.mtu == 1420
            assert net.addresses(device.index) == net.addresses(inside.index) == set()
            assert libbpf.tc_ingress_program(inside.index)
        with IPRoute() as ip:
            links = {link.get_attr("IFLA_IFNAME"): link for link in ip.get_links()}
            assert links[DEVICE].get_attr("IFLA_NUM_RX_QUEUES") == os.cpu_count()
            ours = {links[DEVICE]["index"], links[INSIDE]["index"]}
            # not even a link-local address: nothing is to speak up by itself
            assert not [item for item in ip.get_addr() if item["index"] in ours]
        features = IoctlEthtool(DEVICE).get_features()
        active = {name for name, *_ in features if features.is_active(name)}
        assert "rx-gro" in active
        assert not {name for name in active if "segmentation" in name or "tx-checksum" in name}
        sysctl = Path("/proc/sys/net")
        assert (sysctl / f"ipv4/conf/{INSIDE}/forwarding").read_text().strip() == "0"
        assert (sysctl / f"ipv6/conf/{INSIDE}/disable_ipv6").read_text().strip() == "1"


def test_config_map(host: Host) -> None:
    apply(host, copy_dscp=True)
    host.apply_peers()
    with host.namespace.entered(), Net() as net, Maps.of(host.config) as maps:
        config, device, inside = maps.config(), net.link(DEVICE), net.link(INSIDE)
        underlay = net.link("eth0")
        assert device is not None
        assert inside is not None
        assert underlay is not None
        assert config.underlay_ifindex == underlay.index
        assert config.inside_ifindex == inside.index
        assert bytes(config.brine0_mac) == device.mac
        assert config.port.to_bytes(2, "little") == PORT.to_bytes(2, "big")
        assert config.flags == maps.layout.enum("config_flag")["CONFIG_COPY_DSCP"]
        assert bytes(config.source4.bytes)[12:] == host.underlay4.ip.packed
        assert bytes(config.source6.bytes) == host.underlay6.ip.packed
        secret = config.flow_secret
    assert secret
    assert apply(host, copy_dscp=False)["changed"]
    with Maps.of(host.config) as maps:
        assert maps.config().flags == 0
        assert maps.config().flow_secret == secret
        assert bytes(maps.config().source4.bytes)[12:] == host.underlay4.ip.packed


@pytest.mark.parametrize(
    ("underlay", "wanted", "inner"), [(1500, None, 1420), (1500, 1300, 1300), (1360, None, 1280)]
)
def test_mtu(host: Host, underlay: int, wanted: int | None, inner: int) -> None:
    with host.namespace.entered(), Net() as net:
        link = net.link("eth0")
        assert link is not None
        net.set_mtu(link.index, underlay)
    assert apply(host, mtu=wanted)["mtu"] == inner
    assert not apply(host)["changed"]


def test_mtu_is_changed_in_place(host: Host) -> None:
    apply(host)
    host.apply_peers()
    answer = apply(host, mtu=1280)
    assert answer["changed"]
    assert answer["mtu"] == 1280
    assert not reconcile_check(host)["changed"]


def reconcile_check(host: Host) -> dict[str, Any]:
    return host.inside(reconcile.apply, host.config, host.paths.roster, True)


def test_mode_is_forced(host: Host) -> None:
    assert apply(host, xdp_mode="generic")["xdp_mode"] == "generic"
    assert not apply(host, xdp_mode="auto")["changed"]  # content with what there is
    assert apply(host, xdp_mode="native")["xdp_mode"] == "native"
    assert not apply(host, xdp_mode="auto")["changed"]


def plain(host: Host) -> None:
    """A device whose driver knows no native XDP."""
    with host.namespace.entered(), IPRoute() as ip:
        ip.link("add", ifname="plain0", kind="bridge")
        ip.link("set", ifname="plain0", state="up")


def test_a_driver_without_native_xdp(host: Host) -> None:
    plain(host)
    with pytest.raises(BrineError, match="plain0 takes no XDP program in native mode") as failure:
        apply(host, interface="plain0", xdp_mode="native")
    assert failure.value.next_step == "set brine_xdp_mode to auto"
    assert apply(host, interface="plain0", xdp_mode="auto")["xdp_mode"] == "generic"
    assert not apply(host)["changed"]


def test_another_interface(host: Host) -> None:
    apply(host)
    plain(host)
    answer = apply(host, interface="plain0", xdp_mode="auto")
    assert answer["changed"]
    assert answer["xdp_mode"] == "generic"
    with host.namespace.entered(), Net() as net:
        link = net.link("eth0")
        assert link is not None
        assert not link.xdp_program


# What cannot be


def test_an_interface_that_will_not_do(host: Host) -> None:
    with pytest.raises(BrineError, match="there is no interface eth7") as failure:
        apply(host, interface="eth7")
    assert "one of: eth0" in failure.value.next_step
    plain(host)
    with host.namespace.entered(), IPRoute() as ip:
        ip.link("set", ifname="plain0", state="down")
    with pytest.raises(BrineError, match="plain0 is down"):
        apply(host, interface="plain0")
    with pytest.raises(BrineError, match="eth0 has an MTU of 1500; brine0 needs 1501"):
        apply(host, interface="eth0", mtu=1421)


def test_an_object_that_will_not_do(host: Host, tmp_path: Path) -> None:
    with pytest.raises(BrineError, match="cannot be read"):
        apply(host, object=str(tmp_path / "missing.o"))
    (tmp_path / "wrong.o").write_bytes(b"\x7fELF but no more")
    with pytest.raises(BrineError, match="is not brine's BPF object"):
        apply(host, object=str(tmp_path / "wrong.o"))
    assert not [name for name in everything(host) if DEVICE in name]


def test_a_foreign_xdp_program_is_left_alone(host: Host, bpf_object: Path) -> None:
    foreign = Object(str(bpf_object))
    foreign.load()
    program = foreign.program("open")
    with host.namespace.entered():
        index = socket.if_nametoindex("eth0")
        link = libbpf.attach_xdp(program, index, libbpf.XDP_FLAGS_DRV_MODE)
    before = everything(host)
    for check in (True, False):
        with pytest.raises(BrineError, match=rf"already has an XDP program.*id {program.id()}"):
            apply(host, check)
    assert everything(host) == before
    os.close(link)
    assert apply(host)["xdp_mode"] == "native"
    program.close()
    foreign.close()


def test_a_foreign_device_of_our_name_is_left_alone(host: Host) -> None:
    with host.namespace.entered(), IPRoute() as ip:
        ip.link("add", ifname=DEVICE, kind="bridge")
    with pytest.raises(BrineError, match="there is a device brine0 that is not brine's"):
        apply(host)
    with host.namespace.entered(), IPRoute() as ip:
        assert ip.link_lookup(ifname=DEVICE)
        ip.link("del", ifname=DEVICE)


# Repair


def damage_device(host: Host) -> None:
    with Net() as net:
        link = net.link(DEVICE)
        assert link is not None
        net.delete(link.index)


def damage_seal(host: Host) -> None:
    with IPRoute() as ip:
        ip.tc("del", "clsact", socket.if_nametoindex(INSIDE))


def damage_open(host: Host) -> None:
    pins.unpin_link(host.config.bpffs / "v1")


def damage_offload(host: Host) -> None:
    with contextlib.closing(IoctlEthtool(DEVICE)) as ethtool:
        features = ethtool.get_features()
        features["tx-checksum-ip-generic"] = True
        features["rx-gro"] = False
        ethtool.set_features(features)


def damage_sysctl(host: Host) -> None:
    Path(f"/proc/sys/net/ipv4/conf/{INSIDE}/forwarding").write_text("1")


def damage_state(host: Host) -> None:
    with IPRoute() as ip:
        ip.link("set", ifname=DEVICE, state="down")


def damage_mac(host: Host) -> None:
    with IPRoute() as ip:
        ip.link("set", ifname=DEVICE, address="02:00:00:00:00:01")


def damage_guard(host: Host) -> None:
    with Net() as net:
        guard.prune(net, set())


@pytest.mark.parametrize(
    "damage",
    [
        damage_device, damage_seal, damage_open, damage_offload, damage_sysctl, damage_state,
        damage_mac, damage_guard,
    ],
)  # fmt: skip
def test_what_was_taken_away_is_seen_and_put_back(host: Host, damage: Any) -> None:
    apply(host)
    host.apply_peers()
    peers = id_of(host.config.bpffs / "v1", "peers")
    host.inside(damage, host)
    predicted = apply(host, check=True)
    assert predicted["changed"]
    assert predicted["diff"]["before"] != predicted["diff"]["after"]
    assert apply(host)["changed"]
    assert not apply(host)["changed"]
    host.apply_peers()
    assert not reconcile_check(host)["changed"]
    assert id_of(host.config.bpffs / "v1", "peers") == peers


# Replacing


def other_object(host: Host, directory: Path) -> Path:
    """The same object with other bytes: ELF does not mind some behind its end."""
    path = directory / f"{os.urandom(8).hex()}.o"
    shutil.copyfile(host.config.object, path)
    with path.open("ab") as file:
        file.write(os.urandom(16))
    return path


def probed(one: Host, two: Host, seconds: float, during: Any) -> dict[str, int]:
    """What became of numbered packets from `one` to `two` while `during` ran."""
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(two.probe_receive, seconds + 30, 1)
        time.sleep(0.2)
        sender = pool.submit(one.probe_send, two, seconds)
        time.sleep(0.3)
        during()
        (run,) = receiver.result()["runs"]
        sender.result()
    return dict(run)


def test_another_object_takes_over_and_no_packet_is_lost(make: Make, tmp_path: Path) -> None:
    one, two = make(2)
    one.reach(two)
    directory = one.config.bpffs / "v1"
    ids = {path.name: id_of(directory, path.name) for path in maps_of(directory)}
    association = one.association(two)
    programs = {name: pins.program_id(directory, name) for name in pins.PROGRAMS}

    def replace() -> None:
        for host in (one, two, one):
            answer = apply(host, object=str(other_object(host, tmp_path)))
            assert answer["changed"]
            assert answer["xdp_mode"] == "native"
            assert not apply(host)["changed"]

    run = probed(one, two, 6.0, replace)
    assert run["lost"] == run["duplicated"] == 0
    assert {path.name: id_of(directory, path.name) for path in maps_of(directory)} == ids
    after = one.association(two)
    assert association is not None
    assert after is not None
    assert after["local_index"] == association["local_index"]
    for name, before in programs.items():
        assert pins.program_id(directory, name) not in (0, before)
    assert one.ask("rotate")["started"] == ["host2"]  # through the new `control`
    eventually(lambda: one.association(two)["local_index"] != after["local_index"])  # type: ignore[index]


def maps_of(directory: Path) -> list[Path]:
    return [
        path
        for path in directory.iterdir()
        if path.name not in (*pins.PROGRAMS, "open_link") and "object_" not in path.name
    ]


def test_a_prediction_of_another_object_changes_nothing(host: Host, tmp_path: Path) -> None:
    apply(host)
    before = everything(host)
    path = other_object(host, tmp_path)
    answer = apply(host, check=True, object=str(path))
    assert answer["changed"]
    assert loader.digest(path) in answer["diff"]["after"]
    assert loader.digest(path) not in answer["diff"]["before"]
    assert everything(host) == before


def test_other_sizes_get_new_maps_with_the_same_peers(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    before = one.peer(two)
    with Maps.of(one.config) as maps:
        old_peers, old_routes = maps.peers(), maps.routes()
        old_config = bytes(maps.config())
        answer = apply(one, max_peers=4)
        assert answer["changed"]
        assert maps.stale()
    assert not apply(one)["changed"]
    with Maps.of(one.config) as maps:
        assert maps.max_peers == 4
        assert maps.peers() == old_peers
        assert maps.routes() == old_routes
        assert bytes(maps.config()) == old_config
    assert sorted(path.name for path in one.config.bpffs.iterdir()) == ["v1"]
    assert not reconcile_check(one)["changed"]
    assert one.ended() == 0  # the service manager would start it again
    one.start()
    one.reach(two)
    two.reach(one)
    after = one.association(two)
    assert before["association"] is not None
    assert after is not None
    assert after["local_index"] != before["association"]["local_index"]


def test_sizes_too_small_for_the_peers_are_refused(make: Make) -> None:
    one, two, three = make(3)
    one.reach(two)
    with pytest.raises(BrineError, match="max_peers is 1, but the host has 2 peers"):
        apply(one, max_peers=1)
    changed(one, max_peers=16)
    apply(one)
    assert one.ping(two.inner4) is not None
    assert one.ping(three.inner4) is not None
    assert pins.left_over(one.config.bpffs) == []


@pytest.mark.parametrize("moment", ["before the switch", "within it"])
def test_an_interrupted_migration_is_cleared_up(host: Host, bpf_object: Path, moment: str) -> None:
    apply(host)
    host.apply_peers()
    bpffs = host.config.bpffs
    peers = id_of(bpffs / "v1", "peers")
    (bpffs / "v1_next").mkdir()
    opened = loader.open_object(bpf_object)
    loader.load(opened, bpffs / "v1_next", 4)
    opened.close()
    if moment == "within it":
        (bpffs / "v1").rename(bpffs / "v1_old")
    predicted = apply(host, check=True)
    assert "interrupted migration v1_next" in predicted["diff"]["before"]
    assert apply(host)["changed"]
    assert [path.name for path in bpffs.iterdir()] == ["v1"]
    assert id_of(bpffs / "v1", "peers") == peers
    assert not apply(host)["changed"]
    assert not reconcile_check(host)["changed"]


# Together with what hosts have


def test_strict_reverse_path_filter(make: Make) -> None:
    """The routes through brine0 agree with the allowed IPs that `open` checks."""
    one, two = make(2)
    for host in (one, two):
        with host.namespace.entered():
            Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("1")
    one.reach(two)
    two.reach(one)


def test_the_doctor_finds_a_host_sound(make: Make) -> None:
    (one,) = make(1)
    answer = one.inside(doctor.examine, one.paths)
    assert [each for each in answer["findings"] if each["fatal"]] == []
    assert {"programs", "data path", "peers", "daemon"} <= set(answer["sound"])
    one.stop()
    one.inside(damage_seal, one)
    findings = {each["check"]: each for each in one.inside(doctor.examine, one.paths)["findings"]}
    assert findings["daemon"]["cause"] == "brined does not run"
    assert "brine dataplane apply" in findings["data path"]["next_step"]


# Taking away


def test_nothing_stays_behind(host: Host) -> None:
    before = everything(host)
    apply(host)
    host.apply_peers()
    assert everything(host) != before
    predicted = host.inside(dataplane.remove, host.config, True)
    assert predicted["changed"]
    assert DEVICE in predicted["diff"]["before"]
    assert host.inside(dataplane.remove, host.config, False) == predicted
    assert everything(host) == before
    with host.namespace.entered(), Net() as net:
        link = net.link("eth0")
        assert link is not None
        assert not link.xdp_program
    assert not host.inside(dataplane.remove, host.config, False)["changed"]
    assert host.paths.identity.exists()


def test_a_bpffs_is_mounted_where_there_is_none(host: Host, tmp_path: Path) -> None:
    point = tmp_path / "fs"
    point.mkdir()
    assert not pins.is_on_bpffs(point / "brine")
    apply(host, bpffs=str(point / "brine"))
    assert pins.is_on_bpffs(point / "brine")
    assert (point / "brine").stat().st_mode & 0o777 == 0o700
    host.forget()
    assert ctypes.CDLL(None).umount2(os.fsencode(point), 0) == 0


# In the clear


class Talker:
    """Sends a known pattern to an address of the mesh and to one behind a peer, and knows
    whether anybody refused it."""

    def __init__(self, host: Host, addresses: list[str]) -> None:
        self._host = host
        self._addresses = addresses
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self.refused = self.taken = 0

    def __enter__(self) -> Talker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _talk(self) -> None:
        with (
            self._host.namespace.entered(),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talking,
        ):
            while not self._ending.is_set():
                for address in self._addresses:
                    try:
                        talking.sendto(PATTERN, (address, 9))
                        self.taken += 1
                    except OSError:
                        self.refused += 1
                time.sleep(0.0005)


def test_nothing_leaves_in_the_clear_from_the_guard_to_the_end(
    host: Host, switch: Switch, tmp_path: Path
) -> None:
    with host.namespace.entered(), IPRoute() as ip:
        ip.route("add", dst="default", gateway="192.0.2.2")
        ip.neigh(
            "add",
            dst="192.0.2.2",
            lladdr="02:00:00:00:00:02",
            ifindex=socket.if_nametoindex("eth0"),
        )
    roster = json.loads(host.paths.roster.read_text())
    for entry in roster["peers"]:
        if entry["name"] == "host2":
            entry["allowed_ips"] = ["192.168.50.0/24"]
    host.paths.roster.write_text(json.dumps(roster))
    addresses = ["10.77.0.2", "10.77.9.9", "192.168.50.1"]
    with switch.listen(host.port) as capture:
        host.inside(guard.apply, host.paths, False)
        with Talker(host, addresses) as talker:
            for _ in range(2):
                apply(host)
                host.apply_peers()
                damaged = host.inside(damage_device, host)
                assert damaged is None
                apply(host, object=str(other_object(host, tmp_path)))
                host.apply_peers()
                apply(host, max_peers=4)
                apply(host, max_peers=16)
        assert talker.refused
        assert talker.taken
    assert not [frame for frame in capture.frames if PATTERN in frame]
    # The same eyes do see it once the guard is gone.
    host.forget()
    with switch.listen(host.port) as capture, Talker(host, addresses):
        time.sleep(0.3)
    assert [frame for frame in capture.frames if PATTERN in frame]


def test_without_seal_packets_die_in_the_pair(host: Host, switch: Switch) -> None:
    apply(host)
    host.apply_peers()
    with host.namespace.entered(), IPRoute() as ip:
        ip.route("add", dst="default", gateway="192.0.2.2")
        # A router: what comes in on one device goes out of another.
        Path("/proc/sys/net/ipv4/conf/eth0/forwarding").write_text("1")
    host.inside(damage_seal, host)
    with switch.listen(host.port) as capture, Talker(host, ["10.77.0.2"]) as talker:
        time.sleep(0.3)
    assert talker.taken
    assert not [frame for frame in capture.frames if PATTERN in frame]


def test_guard(host: Host) -> None:
    predicted = host.inside(guard.apply, host.paths, True)
    assert predicted["changed"]
    assert host.inside(guard.apply, host.paths, False) == predicted
    assert not host.inside(guard.apply, host.paths, False)["changed"]
    with host.namespace.entered(), IPRoute() as ip:
        routes = [
            (item.get_attr("RTA_DST"), item["type"], item.get_attr("RTA_PRIORITY"))
            for family in (2, 10)
            for item in ip.get_routes(family=family, proto=98)
        ]
    assert routes == [
        ("10.77.0.0", 7, GUARD_METRIC),
        ("fd62:7269:6e65::", 7, GUARD_METRIC),
    ]


# Reconciling


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
