# SPDX-License-Identifier: GPL-3.0-or-later
"""The data path as it is and as it is to be, in lines that people can compare."""

from __future__ import annotations

import contextlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brine import guard, libbpf, loader, netdev, pins, roster
from brine.config import DEVICE, INSIDE, MINIMUM_MTU, OVERHEAD, Config
from brine.errors import BrineError
from brine.libbpf import Map
from brine.maps import Maps
from brine.netdev import Link, Net
from brine.roster import Network

# `seal` sends or drops whatever comes out of brine0p. Should it be missing, the stack must
# have no use for the packets either: nothing is forwarded, no IPv6. (bpf_redirect_neigh
# routes as for the host's own packets and needs no forwarding.)
SYSCTLS = {
    f"ipv4/conf/{INSIDE}/forwarding": "0",
    f"ipv6/conf/{INSIDE}/disable_ipv6": "1",
    # No link-local address: nobody there to talk to.
    f"ipv6/conf/{DEVICE}/addr_gen_mode": "1",
    f"ipv6/conf/{DEVICE}/accept_ra": "0",
    f"ipv6/conf/{DEVICE}/autoconf": "0",
}

# An XDP frame in more than one buffer can be redirected from here on. One buffer is a page
# less headroom and what the kernel keeps behind the frame.
_FRAGMENTS_REDIRECTED = (6, 3)
_SINGLE_BUFFER_MTU = 3400


@dataclass(frozen=True)
class Target:
    """What is to be, as far as it does not depend on what is."""

    digest: str  #: of the object
    version: int  #: of the maps' layout
    underlay: Link
    mtu: int


def find_target(config: Config, net: Net) -> Target:
    """What `config`, the object and the underlay ask for.

    :raises BrineError: if they do not go together.
    """
    digest = loader.digest(config.object)
    with contextlib.closing(loader.open_object(config.object)) as opened:
        version = loader.layout_version(opened)
    underlay = net.link(config.interface)
    if underlay is None:
        raise BrineError(
            f"there is no interface {config.interface}",
            f"set brine_interface to one of: {', '.join(net.names())}",
        )
    if not underlay.up:
        raise BrineError(
            f"{config.interface} is down", f"bring it up: ip link set {config.interface} up"
        )
    mtu = config.mtu or underlay.mtu - OVERHEAD
    if mtu < MINIMUM_MTU or mtu + OVERHEAD > underlay.mtu:
        least = max(mtu, MINIMUM_MTU) + OVERHEAD
        raise BrineError(
            f"{config.interface} has an MTU of {underlay.mtu}; {DEVICE} needs {least} there",
            f"raise the MTU of {config.interface}" + (" or lower brine_mtu" if config.mtu else ""),
        )
    return Target(digest, version, underlay, mtu)


def refuse_foreign(config: Config, net: Net, underlay: Link) -> None:
    """What others have put where ours is to be is left alone.

    :raises BrineError: if there is such a thing.
    """
    links = (pins.link_info(directory) for directory in pins.directories(config.bpffs))
    ours = {link.program_id for link in links if link is not None}
    if underlay.xdp_program and underlay.xdp_program not in ours:
        raise occupied(config.interface, f" (id {underlay.xdp_program})")
    for name in (DEVICE, INSIDE):
        device = net.link(name)
        if device is not None and device.kind != "veth":
            raise BrineError(
                f"there is a device {name} that is not brine's", f"rename or remove {name}"
            )


def occupied(interface: str, which: str = "") -> BrineError:
    return BrineError(
        f"{interface} already has an XDP program that is not brine's{which}",
        "see `bpftool net show`, and take it off or choose another interface",
    )


def compare(config: Config, net: Net, target: Target) -> tuple[list[str], list[str]]:
    """What is and what is to be. Equal lists: there is nothing to do."""
    directory = pins.current(config.bpffs)
    before = _pinned(config.bpffs, directory)
    after = [
        f"object sha256 {target.digest}",
        f"maps of layout {target.version} for {config.max_peers} peers",
    ]
    possible = modes(config, target.underlay)
    mode = possible[0] if len(possible) == 1 else "native if the driver can, else generic"
    attached = attached_mode(config, net, target.underlay)
    if attached is not None:
        before.append(f"open on {config.interface}, {attached}")
        mode = attached if attached in possible else mode
    after.append(f"open on {config.interface}, {mode}")
    for have, want in (
        _compare_devices(net, target.mtu, directory),
        _compare_settings(config, net, target.underlay, directory),
        _compare_guard(config, net),
    ):
        before += have
        after += want
    return before, after


def modes(config: Config, underlay: Link, release: str = "") -> tuple[str, ...]:
    """The modes in which `open` may be attached, the better one first.

    :param release: of the kernel; empty: the running one.
    :raises BrineError: if only native is wanted and would lose large packets.
    """
    numbers = re.match(r"(\d+)\.(\d+)", release or platform.release())
    assert numbers is not None
    old = tuple(map(int, numbers.groups())) < _FRAGMENTS_REDIRECTED
    if old and (config.mtu or underlay.mtu - OVERHEAD) > _SINGLE_BUFFER_MTU:
        if config.xdp_mode == "native":
            raise BrineError(
                f"before Linux 6.3, native XDP loses inner packets over {_SINGLE_BUFFER_MTU} bytes",
                f"set brine_xdp_mode to auto, or brine_mtu to {_SINGLE_BUFFER_MTU}",
            )
        return ("generic",)
    return ("native", "generic") if config.xdp_mode == "auto" else (config.xdp_mode,)


def attached_mode(config: Config, net: Net, underlay: Link) -> str | None:
    """The mode in which the pinned `open` is attached to the underlay, if it is."""
    directory = pins.current(config.bpffs)
    link = pins.link_info(directory) if directory else None
    if directory is None or link is None or link.ifindex != underlay.index:
        return None
    if link.program_id != pins.program_id(directory, "open"):
        return None
    now = net.link(config.interface)
    return now.xdp_mode if now else None


def settings(config: Config, underlay: Link, maps: Maps, device: Link, inside: Link) -> Any:
    """struct config as it is to be. The sources in it are the matter of reconcile.py."""
    made = maps.config()
    made.underlay_ifindex = underlay.index
    made.inside_ifindex = inside.index
    made.port = int.from_bytes(config.port.to_bytes(2, "big"), "little")
    made.brine0_mac[:] = device.mac
    flags = maps.layout.enum("config_flag")
    made.flags = flags["CONFIG_COPY_DSCP"] * config.copy_dscp
    made.flags |= flags["CONFIG_ROAMING"] * config.roaming
    made.flags |= flags["CONFIG_PUNT_DERIVATION"] * (not config.kernel_derivation)
    return made


def to_guard(config: Config, guarded: set[Network]) -> set[Network]:
    """What is guarded now and what the roster wants to be. Without a sound one, which its
    own verb complains of, no more than now."""
    try:
        members = roster.load(config.paths.roster)
    except BrineError:
        return guarded
    return guarded | guard.wanted(members, guard.own_key(config.paths))


def fits(directory: Path, max_peers: int) -> bool:
    """Whether the maps pinned in `directory` have the size, as far as they are there."""
    peers = _max_peers(directory)
    return peers in (None, max_peers)


def _max_peers(directory: Path) -> int | None:
    """For how many the maps have room, those aside that are not there."""
    peers, endpoints = (_entries(directory / name) for name in ("peers", "endpoints"))
    if peers is None or endpoints is None:
        return peers
    return min(peers, endpoints // loader.endpoint_slots(1))


def _entries(pin: Path) -> int | None:
    try:
        there = Map.pinned(str(pin))
    except OSError:
        return None
    with contextlib.closing(there):
        return there.max_entries


def _pinned(bpffs: Path, directory: Path | None) -> list[str]:
    lines = [f"interrupted migration {path.name}" for path in pins.unfinished(bpffs)]
    lines += [f"former maps past their time {path.name}" for path in pins.past(bpffs)]
    if directory is not None:
        digest, peers = pins.object_digest(directory), _max_peers(directory)
        lines.append(f"object sha256 {digest}" if digest else "object partly loaded")
        lines.append(f"maps of layout {directory.name.removeprefix('v')} for {peers or 0} peers")
    return lines


def _compare_devices(net: Net, mtu: int, directory: Path | None) -> tuple[list[str], list[str]]:
    before: list[str] = []
    after = [f"{DEVICE} up, MTU {mtu}", f"seal on {INSIDE}"]
    device, inside = net.link(DEVICE), net.link(INSIDE)
    if device is None or inside is None:
        return before, after
    state = "up" if device.up and inside.up and not device.arp else "down"
    mtus = sorted({device.mtu, inside.mtu})
    before.append(f"{DEVICE} {state}, MTU {'/'.join(map(str, mtus))}")
    seal = libbpf.tc_ingress_program(inside.index)
    if directory is not None and seal and seal == pins.program_id(directory, "seal"):
        before.append(f"seal on {INSIDE}")
    for name, value in netdev.offloads_to_change(DEVICE).items():
        before.append(f"{DEVICE} {name} {'off' if value else 'on'}")
        after.append(f"{DEVICE} {name} {'on' if value else 'off'}")
    for name, text in netdev.sysctls_to_change(SYSCTLS).items():
        before.append(f"net/{name} not {text}")
        after.append(f"net/{name} {text}")
    return before, after


def _compare_settings(
    config: Config, net: Net, underlay: Link, directory: Path | None
) -> tuple[list[str], list[str]]:
    after = _describe_settings(
        config.port,
        underlay.index,
        copy_dscp=config.copy_dscp,
        kernel_derivation=config.kernel_derivation,
        roaming=config.roaming,
    )
    device, inside = net.link(DEVICE), net.link(INSIDE)
    if directory is None or device is None or inside is None:
        return [], after
    try:
        with Maps.open(directory, config.paths.control_lock) as maps:
            now, flags = maps.config(), maps.layout.enum("config_flag")
            same = bytes(now) == bytes(settings(config, underlay, maps, device, inside))
            before = _describe_settings(
                int.from_bytes(now.port.to_bytes(2, "little"), "big"),
                now.underlay_ifindex,
                copy_dscp=bool(now.flags & flags["CONFIG_COPY_DSCP"]),
                kernel_derivation=maps.derives_on_reception(),
                roaming=bool(now.flags & flags["CONFIG_ROAMING"]),
            )
    except BrineError:
        return [], after
    if not same and before == after:
        before = [*before, "settings of other devices"]
    return before, after


def _describe_settings(
    port: int, underlay: int, *, copy_dscp: bool, kernel_derivation: bool, roaming: bool
) -> list[str]:
    dscp = "copied" if copy_dscp else "not copied"
    roams = ", roaming" if roaming else ""
    when = "on reception" if kernel_derivation else "when brined asks"
    return [
        f"port {port}, DSCP {dscp}, underlay index {underlay}{roams}",
        f"keys derived {when}",
    ]


def _compare_guard(config: Config, net: Net) -> tuple[list[str], list[str]]:
    before = guard.guarded(net)
    after = to_guard(config, before)
    return guard.describe(before).splitlines(), guard.describe(after).splitlines()
