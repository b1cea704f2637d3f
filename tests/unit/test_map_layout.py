# SPDX-License-Identifier: GPL-3.0-or-later
"""LAYOUT_VERSION of bpf/maps.h rises with the layout: `layouts/` has each version in words."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import pytest

from tests.bpf.compile import compile_bpf
from tests.bpf.loaded import ROOT, build
from tests.unit.map_layout import RECORDS, describe, goes_on, record, version_of


def differences(path: Path) -> str:
    """What the object's layout has other than what is recorded for its version."""
    recorded = record(version_of(path))
    known = recorded.read_text() if recorded.exists() else ""
    lines = difflib.unified_diff(
        known.splitlines(), describe(path).splitlines(), str(recorded), "bpf/maps.h", lineterm=""
    )
    return "\n".join(lines)


def test_the_layout_is_the_one_of_its_version(tmp_path: Path) -> None:
    found = differences(build(tmp_path))
    assert not found, (
        "The maps are not as they are written down for LAYOUT_VERSION of bpf/maps.h. Run `python -m"
        " tests.unit.map_layout` and commit what it writes. It refuses if a host would go on with"
        f" maps that it reads wrongly: then raise LAYOUT_VERSION first.\n{found}"
    )


def only_maps(directory: Path, old: str, new: str) -> Path:
    """An object of the maps alone, so that nothing else must compile with the change."""
    shutil.copytree(ROOT / "bpf", directory, ignore=shutil.ignore_patterns("build"))
    header = directory / "maps.h"
    text = header.read_text()
    assert text.count(old) == 1
    header.write_text(text.replace(old, new))
    source = directory / "only_maps.bpf.c"
    headers = "".join(f'#include "{name}.h"\n' for name in ("maps", "admission_maps", "former"))
    source.write_text(f'{headers}char LICENSE[] SEC("license") = "GPL";\n')
    return compile_bpf(source, source.with_suffix(".o"))


def recorded() -> str:
    return max(RECORDS.glob("*.txt"), key=lambda path: int(path.stem)).read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/* Token bucket. */", "/* Tokens. */"),
        ("BOX_CLAIMED = 1,", "BOX_CLAIMED = 1,\n\tBOX_LOST = 77,"),  # a number without a meaning
    ],
)
def test_what_maps_can_go_on_with(tmp_path: Path, old: str, new: str) -> None:
    text = describe(only_maps(tmp_path / "bpf", old, new))
    assert goes_on(recorded(), text)
    assert ("BOX_LOST 77" in text) is ("BOX_LOST" in new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("__u64 highest;", "__u32 highest, more;"),  # a field
        ("__u64 sent_packets, sent_bytes;", "__u64 sent_bytes, sent_packets;"),  # their order
        ("__u64 last_received;", "__u64 last_heard;"),  # a name, and so a meaning
        ("BOX_CLAIMED = 1,", "BOX_CLAIMED = 9,"),  # a number's meaning
        ("BOX_CLAIMED = 1,", "BOX_CLAIMED = 1,\n\tBOX_LOST = 2,"),  # two meanings
        ("\tBUDGETS,", "\tBUDGET_MORE,\n\tBUDGETS,"),  # a map's room, by counting its slots
        ("RETIRED_INDICES = 4096,", "RETIRED_INDICES = 8192,"),  # a map's room
        ("__type(value, __u32); /* association */", "__type(value, __u64);"),  # a value
    ],
)
def test_what_they_cannot_go_on_with(tmp_path: Path, old: str, new: str) -> None:
    assert not goes_on(recorded(), describe(only_maps(tmp_path / "bpf", old, new)))
