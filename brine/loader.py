# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading the BPF object: how large its maps become, and where they are pinned."""

from __future__ import annotations

import hashlib
from pathlib import Path

from brine.btf import Btf
from brine.errors import BrineError
from brine.libbpf import Object
from brine.roster import ENDPOINTS_LIMIT

_PER_PEER = ("peers", "peer_states", "traffic", "limits", "awaited")
_SCRATCH = "_areas"  # maps of that ending hold nothing between two packets


def association_slots(max_peers: int) -> int:
    """How many associations there is room for: two a peer and a quarter to spare.

    A peer has one association, during an exchange two: {current, unconfirmed} or
    {previous, current}; never more than three. All peers exchanging at once (a restart)
    fit. The spare takes third ones and slots at rest, which wait ten seconds for their
    next use. A slot costs 38 KB, nearly all of it replay windows.
    """
    return 2 * max_peers + max(max_peers // 4, 16)


def endpoint_slots(max_peers: int) -> int:
    """How many underlay addresses of peers there is room for: those that the roster names, and
    where one that roams is."""
    return max_peers * (ENDPOINTS_LIMIT + 1)


def sizes(btf: Btf, max_peers: int) -> dict[str, int]:
    """max_entries of the maps that bpf/maps.h leaves to the loader."""
    layout = btf.enum("map_size")
    slots = association_slots(max_peers)
    return {
        **dict.fromkeys(_PER_PEER, max_peers),
        "endpoints": endpoint_slots(max_peers),
        "associations": slots,
        "indices": slots,
        "boxes": slots * layout["BOXES_PER_ASSOCIATION"],
        "counters": slots * layout["PAIRS"],
        "windows": slots * layout["PAIRS"],
    }


def digest(path: Path) -> str:
    """SHA-256 of the object, hex: what tells whether it is the loaded one.

    :raises BrineError: if it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BrineError(
            f"the BPF object {path} cannot be read: {error.strerror}",
            "run the role dataplane, which builds and installs it",
        ) from None


def open_object(path: Path) -> Object:
    """The object, not yet loaded.

    :raises BrineError: if it is none.
    """
    digest(path)  # says clearly if it is missing
    try:
        opened = Object(str(path))
        opened.btf.enum("layout")
    except (OSError, KeyError, ValueError):
        raise BrineError(
            f"{path} is not brine's BPF object", "run the role dataplane, which builds it"
        ) from None
    return opened


def layout_version(opened: Object) -> int:
    """The version of the maps' layout, which names the directory of their pins."""
    return opened.btf.enum("layout")["LAYOUT_VERSION"]


def is_pinned(name: str) -> bool:
    """Whether the map outlives whoever loads it: LAYOUT_VERSION is about these."""
    # bpffs refuses the dots of .rodata and its like
    return "." not in name and not name.endswith(_SCRATCH) and not name.startswith("selftest")


def load(opened: Object, directory: Path, max_peers: int) -> None:
    """Load all but the self-test programs. Maps that are pinned in `directory` are
    reused, the others pinned there, scratch aside.

    :raises BrineError: if the kernel refuses.
    """
    opened.leave_out("selftest")
    for name, entries in sizes(opened.btf, max_peers).items():
        opened.set_max_entries(name, entries)
    for name in opened.map_names():
        if is_pinned(name):
            opened.set_pin_path(name, str(directory / name))
    try:
        opened.load()
    except OSError as error:
        reason = str(error.strerror).strip().splitlines()
        raise BrineError(
            f"the kernel refuses {opened.path}: {reason[0]}: {reason[-1]}",
            "run `brine doctor`, which says what the kernel lacks",
        ) from None
