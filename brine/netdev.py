# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices, addresses and routes through netlink: what brine needs of them, no more.

Routes of ours carry a protocol number of their own (`ip route show proto 98`), so that
they are found again, and nobody else's is ever touched.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkError

from brine.config import DEVICE, INSIDE
from brine.roster import Address, Network

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

ROUTE_PROTOCOL = 98  #: of routes that brine makes; iproute2's rt_protos has no such number
GUARD_METRIC = 0xFFFFFFFE  #: worse than any route that really leads somewhere
_OUTSIDE_METRIC = 1024  # worse than a network that the host is connected to
_METRIC = {4: 0, 6: 1}  # the best there is
_FOREIGN_PROTOCOLS = (2, 3, 4, 16)  # kernel, boot, static, DHCP: not the tables of a router
_MAIN_TABLE = 254
_SCOPE_LINK = 253
_UNICAST = 1
_IFF_UP, _IFF_NOARP = 1, 0x80
_IFA_F_SECONDARY, _IFA_F_TENTATIVE, _IFA_F_DEPRECATED = 0x01, 0x40, 0x20
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_IFA_F_DADFAILED = 0x08
_XDP_NATIVE, _XDP_GENERIC = "xdp", "xdpgeneric"
_QUEUES_LIMIT = 64
_SYSCTL = Path("/proc/sys/net")


@dataclass(frozen=True)
class Link:
    """A device as it is."""

    index: int
    mtu: int
    up: bool
    arp: bool
    mac: bytes  #: 6 bytes; empty for devices without
    kind: str  #: "veth", …; empty for hardware
    xdp_program: int  #: id of the attached program, or 0
    xdp_mode: str | None  #: "native" or "generic"; None without a program, or in another mode


@dataclass(frozen=True)
class Route:
    """A route of ours in the main table."""

    network: Network
    device: int | None  #: index; None: unreachable
    source: Address | None = None  #: preferred
    outside: bool = False  #: of the mesh's networks: whoever is nearer comes first


class Net:
    """One netlink socket into the network namespace that it was opened in."""

    def __init__(self) -> None:
        self._ip = IPRoute(strict_check=True)  # the kernel filters, not we

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ip.close()

    # devices

    def names(self) -> list[str]:
        """All devices but loopback and ours."""
        found = [link.get_attr("IFLA_IFNAME") for link in self._ip.get_links()]
        return sorted(set(found) - {"lo", DEVICE, INSIDE})

    def link(self, name: str) -> Link | None:
        """The device of that name."""
        try:
            found = self._ip.get_links(ifname=name)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        if not found:
            return None
        link = found[0]
        xdp, info = link.get_attr("IFLA_XDP"), link.get_attr("IFLA_LINKINFO")
        modes = {_XDP_NATIVE: "native", _XDP_GENERIC: "generic"}
        mac = (link.get_attr("IFLA_ADDRESS") or "").replace(":", "")
        return Link(
            index=link["index"],
            mtu=link.get_attr("IFLA_MTU"),
            up=bool(link["flags"] & _IFF_UP),
            arp=not link["flags"] & _IFF_NOARP,
            mac=bytes.fromhex(mac),
            kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
            xdp_program=(xdp.get_attr("IFLA_XDP_PROG_ID") if xdp else None) or 0,
            xdp_mode=modes.get(xdp.get_attr("IFLA_XDP_ATTACHED")) if xdp else None,
        )

    def create_pair(self) -> None:
        """brine0 and brine0p, down, with a receive queue per CPU: a packet that `open` hands
        over on a CPU is taken up on that CPU."""
        queues = min(os.cpu_count() or 1, _QUEUES_LIMIT)
        ends = [
            {
                "ifname": name,
                "num_tx_queues": queues,
                "num_rx_queues": queues,
                # Given, and not left to the kernel: else udev's MACAddressPolicy would
                # change it after we have noted it.
                "address": _random_mac(),
            }
            for name in (DEVICE, INSIDE)
        ]
        self._ip.link("add", kind="veth", **ends[0], peer=ends[1])

    def delete(self, index: int) -> None:
        self._ip.link("del", index=index)

    def set_mtu(self, index: int, mtu: int) -> None:
        self._ip.link("set", index=index, mtu=mtu)

    def set_up(self, index: int) -> None:
        self._ip.link("set", index=index, state="up")

    def set_arp_off(self, index: int) -> None:
        self._ip.link("set", index=index, flags=_IFF_NOARP, change=_IFF_NOARP)

    # addresses

    def addresses(self, index: int) -> set[Interface]:
        """What is assigned to the device, link-local ones left out."""
        return {
            address
            for address, _length in self._addresses(index)
            if not (address.version == 6 and address.is_link_local)
        }

    def sources(self, index: int) -> list[Address]:
        """Addresses of the device that outer packets may leave from: usable, lasting, not
        link-local; the kernel's favourite first."""
        unusable = _IFA_F_TENTATIVE | _IFA_F_DADFAILED | _IFA_F_DEPRECATED
        found = [
            (flags, address.ip)
            for address, flags in self._addresses(index)
            if not flags & unusable and not address.ip.is_link_local
        ]
        # On IPv4 the flag says: not the primary one of its subnet. On IPv6: temporary.
        primary = [ip for flags, ip in found if not flags & _IFA_F_SECONDARY]
        return primary + [ip for flags, ip in found if flags & _IFA_F_SECONDARY and ip.version == 4]

    def _addresses(self, index: int) -> Iterator[tuple[Interface, int]]:
        for item in self._ip.get_addr(index=index):
            # On point-to-point links IFA_ADDRESS is the other end.
            text = item.get_attr("IFA_LOCAL") or item.get_attr("IFA_ADDRESS")
            flags = item.get_attr("IFA_FLAGS") or item["flags"]
            yield ipaddress.ip_interface(f"{text}/{item['prefixlen']}"), flags

    def add_address(self, index: int, address: Address) -> None:
        """A single address, usable at once, that brings no route to a network."""
        self._ip.addr(
            "add",
            index=index,
            address=str(address),
            prefixlen=address.max_prefixlen,
            flags=_IFA_F_NOPREFIXROUTE | (_IFA_F_NODAD if address.version == 6 else 0),
        )

    def delete_address(self, index: int, address: Interface) -> None:
        self._ip.addr(
            "del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen
        )

    # routes

    def routes(self) -> set[Route]:
        """All routes of ours."""
        found = set()
        for family, any_address in ((2, "0.0.0.0"), (10, "::")):
            for item in self._ip.get_routes(family=family, proto=ROUTE_PROTOCOL, table=_MAIN_TABLE):
                source = item.get_attr("RTA_PREFSRC")
                destination = item.get_attr("RTA_DST") or any_address
                reachable = item["type"] == _UNICAST
                found.add(
                    Route(
                        network=ipaddress.ip_network(f"{destination}/{item['dst_len']}"),
                        device=item.get_attr("RTA_OIF") if reachable else None,
                        source=ipaddress.ip_address(source) if source else None,
                        outside=item.get_attr("RTA_PRIORITY") == _OUTSIDE_METRIC,
                    )
                )
        return found

    def foreign_routes(self) -> Iterator[tuple[Network, str]]:
        """Routes that others made, by hand or by address, with the names of their devices."""
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in self._ip.get_links()}
        for family in (2, 10):
            for protocol in _FOREIGN_PROTOCOLS:
                for item in self._ip.get_routes(family=family, proto=protocol, table=_MAIN_TABLE):
                    name = names.get(item.get_attr("RTA_OIF"))
                    destination = item.get_attr("RTA_DST")
                    if item["type"] == _UNICAST and name not in (None, DEVICE) and destination:
                        yield ipaddress.ip_network(f"{destination}/{item['dst_len']}"), name

    def put_route(self, route: Route) -> None:
        """Add it, or change the one of ours to the same network at once."""
        self._ip.route("replace", **_route(route))

    def delete_route(self, route: Route) -> None:
        try:
            self._ip.route("del", **_route(route))
        except NetlinkError as error:
            if error.code != errno.ESRCH:  # it went with its device
                raise


def _random_mac() -> str:
    raw = bytearray(os.urandom(6))
    raw[0] = raw[0] & 0xFC | 0x02  # of one station, locally administered
    return raw.hex(":")


def _route(route: Route) -> dict[str, Any]:
    common: dict[str, Any] = {
        "dst": str(route.network),
        "family": 2 if route.network.version == 4 else 10,
        "proto": ROUTE_PROTOCOL,
        "table": _MAIN_TABLE,
    }
    if route.device is None:
        return {**common, "type": "unreachable", "priority": GUARD_METRIC}
    common["priority"] = _OUTSIDE_METRIC if route.outside else _METRIC[route.network.version]
    if route.network.version == 4:
        common["scope"] = _SCOPE_LINK
    if route.source is not None:
        common["prefsrc"] = str(route.source)
    return {**common, "oif": route.device}


# offloads


def _is_transmit_offload(name: str) -> bool:
    return name.startswith("tx-") and (
        "checksum" in name or "segmentation" in name or name == "tx-gso-list"
    )


def offloads_to_change(device: str) -> dict[str, bool]:
    """What is amiss with the device's features: `seal` needs packets segmented and
    checksummed, and XDP redirect needs the NAPI that receive offload brings to a veth."""
    with contextlib.closing(IoctlEthtool(device)) as ethtool:
        features = ethtool.get_features()
        wanted = {name: False for name, *_state in features if _is_transmit_offload(name)}
        wanted["rx-gro"] = True
        return {
            feature: value
            for feature, value in wanted.items()
            if features.is_active(feature) != value
            and features.is_available(feature)
            and not features.is_never_changed(feature)
        }


def set_offloads(device: str, values: dict[str, bool]) -> None:
    with contextlib.closing(IoctlEthtool(device)) as ethtool:
        features = ethtool.get_features()
        for feature, value in values.items():
            features[feature] = value
        ethtool.set_features(features)


# sysctls


def sysctls_to_change(wanted: dict[str, str]) -> dict[str, str]:
    """Those of `wanted` (path below net, value) that differ. A kernel without the
    protocol has no such setting, and needs none."""
    return {name: value for name, value in wanted.items() if _sysctl(name) not in (None, value)}


def set_sysctls(values: dict[str, str]) -> None:
    for name, value in values.items():
        (_SYSCTL / name).write_text(value, encoding="ascii")


def _sysctl(name: str) -> str | None:
    try:
        return (_SYSCTL / name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
