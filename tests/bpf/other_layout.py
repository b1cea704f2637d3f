# SPDX-License-Identifier: GPL-3.0-or-later
"""The object with another layout of its maps: what a later version could be.

Structs have fields in their midst that the tree's do not have, and an enumerator has another
number, so maps of the one read as the other's would make no sense.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from tests.bpf.loaded import ROOT, build

NAME = "other_layout"
_FIELD = "of_another_layout"
_CHANGES = {
    r"LAYOUT_VERSION = \d+,": "LAYOUT_VERSION = 1000,",
    r"(__u64 peer_moved;)": rf"\1\n\t__u64 {_FIELD}[5];",  # struct association
    r"(__u32 index; /\* the receiver's)": rf"__u64 {_FIELD};\n\t\1",  # struct box
    r"(__u64 last_sent;)": rf"__u64 {_FIELD};\n\t\1",  # struct peer_state
    r"(__u32 inside_ifindex;)": rf"__u32 {_FIELD}[2];\n\t\1",  # struct config
    r"ASSOCIATION_CONFIRMED = 5,": "ASSOCIATION_CONFIRMED = 9,",
}
#: what versions need not agree on for maps to be former ones (brine/former.py)
UNAGREED = ("PEER_ROAMING", "remote_index", "send_not_after", "ROUTE_SELF", "CONFIG_COPY_DSCP")


def change(directory: Path, renamed: Collection[str] = ()) -> None:
    """Give the sources in `directory`, a copy of bpf/, that layout, and these names others."""
    header = directory / "maps.h"
    text = header.read_text()
    for old, new in _CHANGES.items():
        text, times = re.subn(old, new, text)
        assert times == 1, f"{times} times in maps.h: {old}"
    header.write_text(text)
    for source in directory.glob("*.[ch]"):
        text = source.read_text()
        for name in renamed:
            text = re.sub(rf"\b{name}\b", f"{name}_renamed", text)
        source.write_text(text)


def build_other_layout(directory: Path, renamed: Collection[str] = ()) -> Path:
    """Compile it into `directory`, or find it as tests.bpf.loaded.build does."""
    sources = directory / "bpf"
    shutil.copytree(ROOT / "bpf", sources)
    change(sources, renamed)
    (sources / "brine.bpf.c").rename(sources / f"{NAME}.bpf.c")
    return build(directory, f"{NAME}.bpf.c", sources)
