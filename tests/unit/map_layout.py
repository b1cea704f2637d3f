# SPDX-License-Identifier: GPL-3.0-or-later
"""The maps of a BPF object in words: what LAYOUT_VERSION stands for.

``python -m tests.unit.map_layout`` writes ``layouts/VERSION.txt``, unless the version must go up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brine import loader
from brine.libbpf import Object
from tests.bpf.loaded import build

Type = dict[str, Any]  # as bpftool shows one

RECORDS = Path(__file__).with_name("layouts")

# Enumerators that go over the wire, to `control` or to brine0, or say how old a key may be: no map
# holds them. All other enums count, also those that are yet to come.
ELSEWHERE = {
    *("layout", "message_type", "wire_size", "pair_time"),
    *("control_operation", "control_result", "control_time"),
    *("keepalive_request_field", "keepalive_flag"),
}
# What the ring buffer carries; maps of that kind name no type.
EVENTS = ("event", "event_derive")


class Types:
    """The object's BTF, by bpftool: it also has the maps, which brine/btf.py leaves out."""

    def __init__(self, path: Path) -> None:
        command = ["bpftool", "--json", "btf", "dump", "file", str(path)]
        dumped = subprocess.run(command, check=True, capture_output=True).stdout
        self._types: dict[int, Type] = {entry["id"]: entry for entry in json.loads(dumped)["types"]}

    def named(self, kind: str, name: str) -> Type:
        (found,) = (
            entry
            for entry in self._types.values()
            if (entry["kind"], entry["name"]) == (kind, name)
        )
        return found

    def maps(self) -> dict[str, dict[str, Type]]:
        """For each map what its definition says: the type that each attribute points to."""
        found = {}
        for entry in self.named("DATASEC", ".maps")["vars"]:
            variable = self._types[entry["type_id"]]
            members = self._types[variable["type_id"]]["members"]
            found[variable["name"]] = {
                member["name"]: self._types[self._types[member["type_id"]]["type_id"]]
                for member in members
            }
        return found

    def resolve(self, number: int) -> Type:
        """The type without its other names and qualifiers."""
        entry = self._types[number]
        while entry["kind"] in ("TYPEDEF", "CONST", "VOLATILE", "RESTRICT"):
            entry = self._types[entry["type_id"]]
        return entry

    def fields(self, entry: Type, at: int = 0, prefix: str = "") -> list[str]:
        """A line for each field that holds something: its offset in bytes, its path, its type."""
        kind = entry["kind"]
        if kind == "ARRAY":
            element = self.resolve(entry["type_id"])
            if element["kind"] in ("INT", "ENUM"):
                return [line(at, f"{prefix}[{entry['nr_elems']}]", scalar(element))]
            if entry["nr_elems"] == 0:  # the vocabulary: it takes no room
                return []
            return self.fields(element, at, f"{prefix}[{entry['nr_elems']}]")
        if kind in ("STRUCT", "UNION"):
            return [
                shown
                for member in entry["members"]
                for shown in self.fields(
                    self.resolve(member["type_id"]),
                    at + member["bits_offset"] // 8,
                    f"{prefix}.{member['name']}".removeprefix("."),
                )
            ]
        return [line(at, prefix, scalar(entry))]

    def enums(self) -> list[Type]:
        """Those that bpf/maps.h brings into BTF."""
        members = self.named("STRUCT", "vocabulary")["members"]
        found = [self.resolve(member["type_id"]) for member in members]
        return [entry for entry in found if entry["kind"] == "ENUM"]

    def size(self, entry: Type) -> int:
        if entry["kind"] == "ARRAY":
            return int(entry["nr_elems"]) * self.size(self.resolve(entry["type_id"]))
        return int(entry["size"])


def line(at: int, path: str, kind: str) -> str:
    """Of a field; the path is empty where the key or value is nothing else."""
    return "  " + " ".join(word for word in (str(at), path, kind) if word)


def scalar(entry: Type) -> str:
    """Its width in bytes, and whether it has a sign."""
    signed = "i" if entry.get("encoding") == "SIGNED" else "u"
    return f"{signed}{8 * entry['size']}"


def describe(path: Path) -> str:
    """The maps that stay while programs and daemons come and go, in the order of their names: kind,
    room, key and value field by field. Then the meaning of the numbers in them."""
    types = Types(path)
    opened = Object(str(path))
    at_load = loader.sizes(opened.btf, 1)
    opened.close()
    lines = []
    for name, given in sorted(types.maps().items()):
        if loader.is_pinned(name):
            numbers = {
                attribute: given[attribute]["nr_elems"]
                for attribute in ("type", "map_flags", "max_entries")
                if attribute in given
            }
            if name in at_load:
                numbers["max_entries"] = "at load"
            lines.append(f"map {name}: {', '.join(f'{a} {n}' for a, n in numbers.items())}")
            for part in ("key", "value"):
                if part in given:
                    entry = types.resolve(given[part]["id"])
                    lines.append(f" {part}, {types.size(entry)} bytes")
                    lines += types.fields(entry)
    for name in EVENTS:
        entry = types.named("STRUCT", name)
        lines += [f"struct {name}, {types.size(entry)} bytes", *types.fields(entry)]
    for entry in sorted(types.enums(), key=lambda entry: str(entry["name"])):
        if entry["name"] not in ELSEWHERE:
            lines.append(f"enum {entry['name']}")
            lines += [f"  {value['name']} {value['val']}" for value in entry["values"]]
    return "\n".join(lines) + "\n"


def record(version: int) -> Path:
    """Where the layout of that version is written down."""
    return RECORDS / f"{version}.txt"


def version_of(path: Path) -> int:
    opened = Object(str(path))
    try:
        return loader.layout_version(opened)
    finally:
        opened.close()


def sections(text: str) -> dict[str, list[str]]:
    """The lines below each heading."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for shown in text.splitlines():
        if shown.startswith(" "):
            lines.append(shown)
        else:
            lines = found.setdefault(shown, [])
    return found


def goes_on(former: str, text: str) -> bool:
    """Whether maps of the former layout can be used as ones of this: it at most gives meaning to
    numbers that had none. Enumerators that count others are numbers that had one."""
    old, new = sections(former), sections(text)
    for heading, lines in old.items():
        now = new.get(heading, [])
        if not heading.startswith("enum "):
            if now != lines:
                return False
        elif not set(lines) <= set(now) or taken(lines) & taken(set(now) - set(lines)):
            return False
    return all(heading in old or heading.startswith("enum ") for heading in new)


def taken(enumerators: Iterable[str]) -> set[str]:
    """The numbers that have a meaning."""
    return {shown.split()[1] for shown in enumerators}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        built = build(Path(directory))
        target, text = record(version_of(built)), describe(built)
    if target.exists() and not goes_on(target.read_text(), text):
        sys.exit(f"{target} has another layout. Raise LAYOUT_VERSION in bpf/maps.h first")
    target.write_text(text)


if __name__ == "__main__":
    main()
