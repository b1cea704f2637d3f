# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting up and taking away the data path: real devices, programs and pins."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import IoctlEthtool

from brine import dataplane, doctor, libbpf, pins
from brine.config import DEVICE, INSIDE
from brine.errors import BrineError
from brine.libbpf import Object
from brine.maps import Maps, pin_directory
from brine.netdev import Net
from tests.integration.conftest import Make
from tests.integration.hosts import PORT, Host
from tests.integration.steps import (
    apply,
    damage_device,
    damage_guard,
    damage_mac,
    damage_offload,
    damage_open,
    damage_seal,
    damage_state,
    damage_sysctl,
    everything,
    id_of,
    plain,
    reconcile_check,
)

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
        assert maps.derives_on_reception()
        assert maps.config().flow_secret == secret
        assert bytes(maps.config().source4.bytes)[12:] == host.underlay4.ip.packed


def test_the_difference_shows_where_keys_are_derived(host: Host) -> None:
    apply(host)
    for derives, was, will_be in (
        (False, "on reception", "when brined asks"),
        (True, "when brined asks", "on reception"),
    ):
        for check in (True, False):
            answer = apply(host, check=check, kernel_derivation=derives)
            assert answer["changed"]
            before, after = (answer["diff"][name].splitlines() for name in ("before", "after"))
            assert set(before) - set(after) == {f"keys derived {was}"}
            assert set(after) - set(before) == {f"keys derived {will_be}"}
            with Maps.of(host.config) as maps:
                assert maps.derives_on_reception() is (derives if not check else not derives)
        assert not apply(host)["changed"]


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


def test_mode_is_forced(host: Host) -> None:
    assert apply(host, xdp_mode="generic")["xdp_mode"] == "generic"
    assert not apply(host, xdp_mode="auto")["changed"]  # content with what there is
    assert apply(host, xdp_mode="native")["xdp_mode"] == "native"
    assert not apply(host, xdp_mode="auto")["changed"]


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
    peers = id_of(pin_directory(host.config.bpffs), "peers")
    host.inside(damage, host)
    predicted = apply(host, check=True)
    assert predicted["changed"]
    assert predicted["diff"]["before"] != predicted["diff"]["after"]
    assert apply(host)["changed"]
    assert not apply(host)["changed"]
    host.apply_peers()
    assert not reconcile_check(host)["changed"]
    assert id_of(pin_directory(host.config.bpffs), "peers") == peers


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


def test_detached_it_leaves_the_interface_alone(host: Host) -> None:
    host.apply()
    predicted = host.inside(dataplane.detach, host.config, True)
    answer = host.inside(dataplane.detach, host.config, False)
    assert predicted["changed"]
    assert answer["changed"]
    with host.namespace.entered(), Net() as net:
        underlay, device = net.link("eth0"), net.link(DEVICE)
        assert underlay is not None
        assert underlay.xdp_mode is None
        assert device is not None
        assert device.up
    assert not host.inside(dataplane.detach, host.config, False)["changed"]
    again = host.inside(dataplane.apply, host.config, False)
    assert again["changed"]
    assert again["xdp_mode"] == "native"


def test_detached_at_once_even_if_somebody_holds_the_link(host: Host) -> None:
    host.apply()
    (directory,) = pins.directories(host.config.bpffs)
    held = pins.open_link(directory)
    try:
        host.inside(dataplane.detach, host.config, False)
        with host.namespace.entered(), Net() as net:
            underlay = net.link("eth0")
            assert underlay is not None
            assert underlay.xdp_mode is None
    finally:
        os.close(held)


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
