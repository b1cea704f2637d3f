# SPDX-License-Identifier: GPL-3.0-or-later
"""The instructions of a BPF object, function by function, as clang wrote them.

No more of ELF (the System V gABI, 64-bit little-endian) than that takes: sections, symbols,
and the relocations that say which function a call or a callback's address means.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_SYMBOLS, _RELOCATIONS, _FUNCTION = 2, 9, 2  # SHT_SYMTAB, SHT_REL, STT_FUNC
_R_BPF_64_64 = 1
CALL, LOAD_IMMEDIATE = 0x85, 0x18
PSEUDO_CALL = 1  # src_reg of a call to a function of the object
BYTES = 8  #: of an instruction


@dataclass(frozen=True)
class Instruction:
    """One slot of 8 bytes; fields as in Documentation/bpf/standardization."""

    code: int
    dst: int
    src: int
    offset: int
    immediate: int
    function: str | None = None  #: what a call, or an address in .text, means
    symbol: str | None = None  #: what another relocated address means: a map


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    data: bytes
    link: int
    info: int


@dataclass(frozen=True)
class _Symbol:
    name: str
    kind: int
    section: int
    value: int
    size: int


def _name(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _sections(image: bytes) -> list[_Section]:
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    (start,) = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    raw = [struct.unpack_from("<IIQQQQIIQQ", image, start + size * n) for n in range(count)]
    table = image[raw[names][4] : raw[names][4] + raw[names][5]]
    return [
        _Section(_name(table, row[0]), row[1], image[row[4] : row[4] + row[5]], row[6], row[7])
        for row in raw
    ]


def _symbols(sections: list[_Section]) -> list[_Symbol]:
    table = next(section for section in sections if section.kind == _SYMBOLS)
    names = sections[table.link].data
    return [
        _Symbol(_name(names, name), info & 15, section, value, size)
        for name, info, _other, section, value, size in struct.iter_unpack("<IBBHQQ", table.data)
    ]


def functions(path: Path) -> dict[str, list[Instruction]]:
    """Instructions of every function by name. A wide load (``lddw``) takes two slots.

    :raises ValueError: if the file is no such object, or a call leads nowhere.
    """
    sections = _sections(path.read_bytes())
    symbols = _symbols(sections)
    starts = {
        (symbol.section, symbol.value): symbol.name
        for symbol in symbols
        if symbol.kind == _FUNCTION
    }
    relocations: dict[tuple[int, int], tuple[_Symbol, int]] = {}
    for section in sections:
        if section.kind == _RELOCATIONS:
            for offset, info in struct.iter_unpack("<QQ", section.data):
                relocations[section.info, offset] = symbols[info >> 32], info & 0xFFFFFFFF

    def decode(symbol: _Symbol, at: int) -> Instruction:
        code, registers, offset, immediate = struct.unpack_from(
            "<BBhi", sections[symbol.section].data, at
        )
        function = name = None
        target, kind = relocations.get((symbol.section, at), (None, 0))
        if code == CALL and registers >> 4 == PSEUDO_CALL:
            # Relative to the next instruction, or to the symbol if there is one.
            place = (symbol.section, at + BYTES * (immediate + 1))
            if target is not None:
                place = (target.section, target.value + BYTES * (immediate + 1))
            function = starts.get(place)
            if function is None:
                raise ValueError(f"{symbol.name}+{at - symbol.value}: a call of no function")
        elif target is not None and kind == _R_BPF_64_64:
            function = starts.get((target.section, target.value + immediate))
            name = target.name
        return Instruction(code, registers & 15, registers >> 4, offset, immediate, function, name)

    return {
        symbol.name: [
            decode(symbol, at) for at in range(symbol.value, symbol.value + symbol.size, BYTES)
        ]
        for symbol in symbols
        if symbol.kind == _FUNCTION
    }
