# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the host side do to a host, and how they look at it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import IoctlEthtool

from brine import config as configuration
from brine import dataplane, guard, pins, reconcile
from brine.config import DEVICE, INSIDE, Config
from brine.libbpf import Map
from brine.maps import pin_directory
from brine.netdev import Net
from tests.integration.hosts import Host


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
        settle(ip)
        found = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
        found += [str(item.get_attr("IFA_ADDRESS")) for item in ip.get_addr()]
        found += [
            f"{item['type']} {item.get_attr('RTA_DST')}/{item['dst_len']}"
            for family in (2, 10)
            for item in ip.get_routes(family=family)
        ]
    found += [str(path) for path in host.config.bpffs.rglob("*")]
    return sorted(found)


def settle(ip: IPRoute, seconds: float = 20) -> None:
    """Wait for what the kernel does later: an IPv6 address gets its local route from a work
    queue (net/ipv6/addrconf.c, addrconf_dad_begin)."""
    deadline = time.monotonic() + seconds
    while True:
        addresses = {str(item.get_attr("IFA_ADDRESS")) for item in ip.get_addr(family=10)}
        routed = {str(item.get_attr("RTA_DST")) for item in ip.get_routes(family=10)}
        if addresses <= routed:
            return
        assert time.monotonic() < deadline, f"no local route for {addresses - routed}"
        time.sleep(0.02)


def id_of(directory: Path, name: str) -> int:
    with contextlib.closing(Map.pinned(str(directory / name))) as item:
        return item.id


def reconcile_check(host: Host) -> dict[str, Any]:
    return host.inside(reconcile.apply, host.config, host.paths.roster, True)


def plain(host: Host) -> None:
    """A device whose driver knows no native XDP."""
    with host.namespace.entered(), IPRoute() as ip:
        ip.link("add", ifname="plain0", kind="bridge")
        ip.link("set", ifname="plain0", state="up")


def other_object(host: Host, directory: Path) -> Path:
    """The same object with other bytes: ELF does not mind some behind its end."""
    path = directory / f"{os.urandom(8).hex()}.o"
    shutil.copyfile(host.config.object, path)
    with path.open("ab") as file:
        file.write(os.urandom(16))
    return path


def damage_device(host: Host) -> None:
    with Net() as net:
        link = net.link(DEVICE)
        assert link is not None
        net.delete(link.index)


def damage_seal(host: Host) -> None:
    with IPRoute() as ip:
        ip.tc("del", "clsact", socket.if_nametoindex(INSIDE))


def damage_open(host: Host) -> None:
    pins.unpin_link(pin_directory(host.config.bpffs))


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
        guard.take(net, guard.guarded(net))


def address_of(host: Host, action: str, address: str, bits: int = 24) -> None:
    """Add or delete an underlay address."""
    with host.namespace.entered(), IPRoute() as ip:
        # else the first address of a network takes the others with it
        Path("/proc/sys/net/ipv4/conf/eth0/promote_secondaries").write_text("1")
        index = ip.link_lookup(ifname="eth0")[0]
        flags = {"flags": 2} if ":" in address and action == "add" else {}
        ip.addr(action, index=index, address=address, prefixlen=bits, **flags)
