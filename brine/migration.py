# SPDX-License-Identifier: GPL-3.0-or-later
"""New maps in the place of old ones, when their layout or their sizes change.

The new maps are filled and their programs ready before either is attached, so the data
path always has a peer table. Associations are not carried over: boxes and windows are
never copied (protocol.md, "Boxes"). The old maps stay beside the new ones until the peers
have exchanged anew (former.py). Counters start at zero.

Interrupted, it leaves directories behind from which `take_back` restores the old maps;
`clear_up` then removes the new ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brine import former, pins
from brine.errors import BrineError
from brine.maps import Maps

_KEPT = 1  # older former maps, beside those that become former now: to take an upgrade back


@contextlib.contextmanager
def replacing(bpffs: Path, old: Path, version: int, lock: Path) -> Iterator[Path]:
    """Within it, fill the yielded directory and switch the programs to it. Afterwards it
    has the name v`version`, and the old maps are former ones."""
    former.end(bpffs, lock, keep=_KEPT)
    new = bpffs / f"v{version}_next"
    new.mkdir(mode=0o700)
    try:
        yield new
    except BaseException:
        former.reinstate(old)
        raise
    retired = pins.as_former(old)
    with Maps.open(old, lock) as maps, maps.locked():
        old.rename(retired)
        new.rename(bpffs / f"v{version}")
    pins.drop_link(retired)
    if pins.until(retired) is None:  # it was never whole, so nothing is handed to it
        former.retire(retired, lock)


def take_back(bpffs: Path) -> Path | None:
    """After an interrupted migration: the directory of the old maps, which are in use again
    once their programs are attached. They may be already."""
    if pins.current(bpffs) is None and (formers := pins.formers(bpffs)):
        formers[-1].rename(pins.as_current(formers[-1]))
    in_use = pins.current(bpffs)
    if in_use is not None:
        former.reinstate(in_use)
    return in_use if pins.unfinished(bpffs) else None


def clear_up(bpffs: Path, lock: Path) -> None:
    """Remove what an interrupted migration has left, and former maps past their time."""
    left = pins.left_over(bpffs)
    former.end(bpffs, lock, keep=len([path for path in pins.formers(bpffs) if path not in left]))
    for path in pins.left_over(bpffs):
        former.retire(path, lock)


def copy_tables(old: Maps, new: Maps) -> None:
    """Carry over what user space wrote: config, peers, routes, endpoints. Peers keep their
    numbers where the new maps have them.

    :raises BrineError: if the new maps have no room for all peers.
    """
    peers = old.peers()
    if len(peers) > new.max_peers:
        raise BrineError(
            f"max_peers is {new.max_peers}, but the host has {len(peers)} peers",
            "raise brine_max_peers, or remove hosts from the group first",
        )
    free = iter(number for number in range(new.max_peers) if number not in peers)
    numbers = {number: number if number < new.max_peers else next(free) for number in sorted(peers)}
    for number, peer in peers.items():
        new.write_peer(numbers[number], peer.identity, peer.endpoint, peer.roaming)
    was, is_now = old.route_values, new.route_values
    for network, value in old.routes().items():
        owner = was.peer(value)
        if owner is None:
            new.set_route(network, is_now.own if value == was.own else is_now.nobody)
        elif owner in numbers:
            outside = is_now.outside if value & was.outside else 0
            new.set_route(network, numbers[owner] + outside)
    for address, listed in old.endpoints().items():
        if listed in numbers:
            new.set_endpoint(address, numbers[listed])
    _copy_config(old, new)


def _copy_config(old: Maps, new: Maps) -> None:
    before, after = old.config(), new.config()
    for name, _kind in _fields(before):
        if hasattr(after, name):
            setattr(after, name, _same(getattr(before, name), getattr(after, name)))
    new.write_config(after)


def _fields(structure: Any) -> list[tuple[str, Any]]:
    # `vocabulary` has no members to copy: an array of none
    return [field for field in structure._fields_ if field[0] != "vocabulary"]


def _same(value: Any, like: Any) -> Any:
    """Structs of two BTFs are two classes, even if their bytes agree."""
    if isinstance(value, int):
        return value
    return type(like).from_buffer_copy(bytes(value))
