# SPDX-License-Identifier: GPL-3.0-or-later
"""The data path: the device pair, the loaded object, and where its programs are attached.

`apply` compares what is with what ``config.json`` and the object ask for (survey.py):

* another object of the same layout and sizes: its programs take over the pinned maps and
  replace the attached ones, each atomically; associations live on;
* another layout, or another ``max_peers``: new maps take the place of the old ones
  (migration.py), whose associations are of use until peers have exchanged anew (former.py);
* the same object: nothing, or only what somebody has taken away.

`open` keeps the mode it was attached in: ``auto`` is content with either. Changing a
forced mode detaches it for a moment; received packets then reach the stack, which has
no use for them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brine import control_client, former, guard, libbpf, loader, migration, netdev, pins, survey
from brine.config import DEVICE, INSIDE, Config
from brine.errors import BrineError
from brine.libbpf import Program
from brine.locking import locked
from brine.maps import Maps
from brine.netdev import Link, Net
from brine.survey import Target

_XDP_FLAGS = {"native": libbpf.XDP_FLAGS_DRV_MODE, "generic": libbpf.XDP_FLAGS_SKB_MODE}


def apply(config: Config, check: bool) -> dict[str, Any]:
    """Make the data path what `config` says: ``{changed, xdp_mode, mtu, diff}``. With
    `check` only say what would change; mode and MTU are then what they are, or null.

    :raises BrineError: if it cannot be.
    """
    _require_root()
    with locked(config.paths.apply_lock), Net() as net:
        target = survey.find_target(config, net)
        survey.refuse_foreign(config, net, target.underlay)
        before, after = survey.compare(config, net, target)
        changed = before != after
        if changed and not check:
            _change(config, net, target)
            now, after = survey.compare(config, net, target)
            if now != after:
                amiss = [line for line in after if line not in now] or now
                raise BrineError(
                    f"the data path did not become what it should: {amiss[0]}",
                    "look for another program that manages these devices, then apply again",
                )
        device = net.link(DEVICE)
        mode = survey.attached_mode(config, net, target.underlay)
    return {
        "changed": changed,
        "xdp_mode": mode,
        "mtu": device.mtu if device else None,
        "diff": {"before": _text(before), "after": _text(after)},
    }


def remove(config: Config, check: bool) -> dict[str, Any]:
    """Take away everything that brine has made on the host's network and in its kernel:
    ``{changed, diff}``. The guard goes last; then nothing keeps packets for the mesh's
    networks from leaving elsewhere. Keys and configuration stay.

    :raises BrineError: if it cannot be.
    """
    _require_root()
    with locked(config.paths.apply_lock), Net() as net:
        device, inside = net.link(DEVICE), net.link(INSIDE)
        directories = pins.directories(config.bpffs)
        guarded = guard.guarded(net)
        before = [f"pins {directory}" for directory in directories]
        before += guard.describe(guarded).splitlines()
        if device is not None and inside is not None:
            before.insert(0, f"device {DEVICE}")
        if not check:
            if device is not None and inside is not None:
                net.delete(device.index)  # the other end, addresses, routes and `seal` with it
            # Those in use last: left alone, former ones would pass for them.
            for directory in reversed(directories):
                pins.unpin_link(directory)
                former.retire(directory, config.paths.control_lock)
            with contextlib.suppress(OSError):  # not there, or not only ours
                config.bpffs.rmdir()
            guard.take(net, guarded)
    return {"changed": bool(before), "diff": {"before": _text(before), "after": ""}}


def detach(config: Config, check: bool) -> dict[str, Any]:
    """Take `open` off the underlay and leave all else: ``{changed, diff}``. The host is then
    reached as if brine were not there, nothing leaves in the clear, and what peers send is of
    no use to the stack. `apply` attaches it again.

    :raises BrineError: if it cannot be.
    """
    _require_root()
    with locked(config.paths.apply_lock):
        attached = [path for path in pins.directories(config.bpffs) if pins.link_info(path)]
        if not check:
            for directory in attached:
                pins.unpin_link(directory)
    before = "".join(f"open by {directory}\n" for directory in attached)
    return {"changed": bool(attached), "diff": {"before": before, "after": ""}}


def _change(config: Config, net: Net, target: Target) -> None:
    guarded = guard.guarded(net)
    guard.put(net, survey.to_guard(config, guarded) - guarded)
    lock = config.paths.control_lock
    pins.ensure_bpffs(config.bpffs)
    if (taken_back := migration.take_back(config.bpffs)) is not None:
        _attach_again(net, taken_back)
    migration.clear_up(config.bpffs, lock)
    device, inside = _prepare_devices(net, target.mtu)
    old = pins.current(config.bpffs)
    own = config.bpffs / f"v{target.version}"
    if old is not None and (old != own or not survey.fits(old, config.max_peers)):
        with migration.replacing(config.bpffs, old, target.version, lock) as new:
            programs = _load(config, new)
            with Maps.open(old, lock) as before, Maps.open(new, lock) as maps:
                migration.copy_tables(before, maps)
            if _settled(config, target, new, (device, inside)):
                former.link(old, new, programs, lock)
            else:
                former.end(config.bpffs, lock)
            _set_up(config, net, target, programs, new, old, (device, inside))
    else:
        own.mkdir(mode=0o700, exist_ok=True)
        loaded = pins.object_digest(own) == target.digest
        programs = _pinned_programs(own) if loaded else _load(config, own)
        if pins.formers(config.bpffs) and not _settled(config, target, own, (device, inside)):
            former.end(config.bpffs, lock)
        _set_up(config, net, target, programs, own, own, (device, inside))
    net.set_up(inside.index)
    net.set_up(device.index)
    # brined follows the settings, or begins anew with new maps, which one that does not
    # answer finds out itself.
    with contextlib.suppress(BrineError):
        control_client.request(config.paths.control_socket, "reload")


def _attach_again(net: Net, directory: Path) -> None:
    """Attach the programs pinned there, if those that were to replace them are attached. Before
    these go: without their pins they hand nothing on, and until others are loaded nothing
    would be sealed or opened."""
    if pins.object_digest(directory) is None:
        return
    with (
        contextlib.closing(Program.pinned(str(directory / "seal"))) as seal,
        contextlib.closing(Program.pinned(str(directory / "open"))) as open_,
    ):
        inside = net.link(INSIDE)
        if inside is not None and libbpf.tc_ingress_program(inside.index) != seal.id():
            libbpf.attach_tc_ingress(seal, inside.index)
        info = pins.link_info(directory)
        if info and info.ifindex and info.program_id != open_.id():
            link = pins.open_link(directory)
            try:
                libbpf.update_link(link, open_)
            finally:
                os.close(link)


def _settled(config: Config, target: Target, directory: Path, pair: tuple[Link, Link]) -> bool:
    """Whether the maps there have the settings that are to be, but for those that a moment's
    delay does no harm. Former programs know no newer ones: they would go on with another port or
    interface."""
    with Maps.open(directory, config.paths.control_lock) as maps:
        now, wanted = maps.config(), survey.settings(config, target.underlay, maps, *pair)
        flags = maps.layout.enum("config_flag")
        harmless = flags["CONFIG_COPY_DSCP"] | flags["CONFIG_PUNT_DERIVATION"]
        for settings in (now, wanted):
            settings.flags |= harmless
        return bytes(now) == bytes(wanted)


def _load(config: Config, directory: Path) -> dict[str, Program]:
    with contextlib.closing(loader.open_object(config.object)) as opened:
        loader.load(opened, directory, config.max_peers)
        return {name: opened.program(name) for name in pins.PROGRAMS}


def _pinned_programs(directory: Path) -> dict[str, Program]:
    return {name: Program.pinned(str(directory / name)) for name in pins.PROGRAMS}


def _prepare_devices(net: Net, mtu: int) -> tuple[Link, Link]:
    """The pair as it is to be, except that new devices are still down: `seal` comes first."""
    if net.link(DEVICE) is None:
        net.create_pair()
    for name in (DEVICE, INSIDE):
        link = _present(net, name)
        if link.mtu != mtu:
            net.set_mtu(link.index, mtu)
    device, inside = _present(net, DEVICE), _present(net, INSIDE)
    netdev.set_sysctls(netdev.sysctls_to_change(survey.SYSCTLS))
    if device.arp:
        net.set_arp_off(device.index)
    if offloads := netdev.offloads_to_change(DEVICE):
        netdev.set_offloads(DEVICE, offloads)
    return device, inside


def _present(net: Net, name: str) -> Link:
    link = net.link(name)
    if link is None:
        raise BrineError(f"{name} has gone while the data path was set up", "apply again")
    return link


def _set_up(
    config: Config,
    net: Net,
    target: Target,
    programs: dict[str, Program],
    directory: Path,
    held: Path,
    pair: tuple[Link, Link],
) -> None:
    """Fill the config map, attach, pin in `directory`. `held` has the pin of the link that
    there may be."""
    with Maps.open(directory, config.paths.control_lock) as maps:
        settings = survey.settings(config, target.underlay, maps, *pair)
        if not settings.flow_secret:
            settings.flow_secret = secrets.randbits(64) | 1
        maps.write_config(settings)
    libbpf.attach_tc_ingress(programs["seal"], pair[1].index)
    with _attached(config, net, target.underlay, programs["open"], held) as link:
        pins.pin_link(directory, link)
    pins.unpin_digest(directory)
    pins.pin_programs(directory, programs)
    pins.pin_digest(directory, target.digest, programs["control"])
    for program in programs.values():
        program.close()


@contextlib.contextmanager
def _attached(
    config: Config, net: Net, underlay: Link, program: Program, held: Path
) -> Iterator[int]:
    """A descriptor of the link that attaches `open`: the pinned one, its program replaced,
    if it is on the right device in a mode that will do; else a new one."""
    info = pins.link_info(held)
    mode = _present(net, config.interface).xdp_mode
    modes = survey.modes(config, underlay)
    if info and info.ifindex == underlay.index and mode in modes:
        link = pins.open_link(held)
        if info.program_id != program.id():
            libbpf.update_link(link, program)
    else:
        pins.unpin_link(held)
        link = _attach_xdp(config, modes, underlay.index, program)
    try:
        yield link
    finally:
        os.close(link)


def _attach_xdp(config: Config, modes: tuple[str, ...], ifindex: int, program: Program) -> int:
    for mode in modes:
        try:
            return libbpf.attach_xdp(program, ifindex, _XDP_FLAGS[mode])
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                raise survey.occupied(config.interface) from None
            reason = os.strerror(error.errno or 0)
    raise BrineError(
        f"{config.interface} takes no XDP program in {modes[-1]} mode: {reason}",
        "set brine_xdp_mode to auto" if config.xdp_mode == "native" else "choose another interface",
    )


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise BrineError("the data path can only be changed by root", "run as root")
