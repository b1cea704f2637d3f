# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts of C structs and enums, read from BTF.

The headers under bpf/ are the one source of every layout; the compiler writes
them into the object's BTF, the kernel keeps that beside the maps. Format:
Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass, field
from typing import Any

_MAGIC = 0xEB9F
_KIND_INT, _KIND_PTR, _KIND_ARRAY, _KIND_STRUCT, _KIND_UNION, _KIND_ENUM = 1, 2, 3, 4, 5, 6
_KIND_FUNC_PROTO, _KIND_VAR, _KIND_DATASEC, _KIND_DECL_TAG, _KIND_ENUM64 = 13, 14, 15, 17, 19
_KIND_TYPEDEF, _KIND_VOLATILE, _KIND_CONST, _KIND_RESTRICT = 8, 9, 10, 11
_INTEGERS: dict[int, type[ctypes._SimpleCData[int]]] = {
    1: ctypes.c_uint8,
    2: ctypes.c_uint16,
    4: ctypes.c_uint32,
    8: ctypes.c_uint64,
}
_SIGNED: dict[int, type[ctypes._SimpleCData[int]]] = {
    1: ctypes.c_int8,
    2: ctypes.c_int16,
    4: ctypes.c_int32,
    8: ctypes.c_int64,
}
_INT_SIGNED = 1 << 24  # in the word that follows an integer


@dataclass
class _Type:
    name: str
    kind: int
    vlen: int
    size_or_type: int
    extra: list[tuple[int, ...]] = field(default_factory=list)


class Btf:
    """Raw BTF bytes, as libbpf's ``btf__raw_data`` gives them.

    :raises ValueError: if the bytes are not BTF of a known shape.
    """

    def __init__(self, raw: bytes) -> None:
        self._types: list[_Type] = [_Type("void", 0, 0, 0)]
        self._structs: dict[int, type[ctypes.Structure]] = {}
        try:
            magic, version, _flags, header = struct.unpack_from("<HBBI", raw)
            if magic != _MAGIC or version != 1:
                raise ValueError("not little-endian BTF version 1")
            type_off, type_len, str_off, str_len = struct.unpack_from("<IIII", raw, 8)
            self._strings = raw[header + str_off : header + str_off + str_len]
            self._parse(raw[header + type_off : header + type_off + type_len])
        except struct.error:
            raise ValueError("BTF that is cut short") from None

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _parse(self, data: bytes) -> None:
        at = 0
        # Words that follow each kind's common part: (per type, per element).
        extra = {
            _KIND_INT: (1, 0),
            _KIND_ARRAY: (3, 0),
            _KIND_STRUCT: (0, 3),
            _KIND_UNION: (0, 3),
            _KIND_ENUM: (0, 2),
            _KIND_FUNC_PROTO: (0, 2),
            _KIND_VAR: (1, 0),
            _KIND_DATASEC: (0, 3),
            _KIND_DECL_TAG: (1, 0),
            _KIND_ENUM64: (0, 3),
        }
        while at < len(data):
            name, info, size_or_type = struct.unpack_from("<III", data, at)
            at += 12
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            item = _Type(self._string(name), kind, vlen, size_or_type)
            once, each = extra.get(kind, (0, 0))
            for words in [once] if once else [each] * vlen if each else []:
                item.extra.append(struct.unpack_from(f"<{words}I", data, at))
                at += 4 * words
            self._types.append(item)

    def enum(self, name: str) -> dict[str, int]:
        """Enumerators of ``enum name`` by name, unsigned.

        :raises KeyError: if there is no such enum.
        """
        for item in self._types:
            if item.kind == _KIND_ENUM and item.name == name:
                return {self._string(entry[0]): entry[1] for entry in item.extra}
        raise KeyError(f"enum {name} is not in the BTF")

    def struct(self, name: str) -> type[ctypes.Structure]:
        """``struct name`` as a ctypes class: arrays of bytes become ``c_uint8 * n``.

        :raises KeyError: if there is no such struct.
        :raises ValueError: if it contains itself, or what is no type.
        """
        for number, item in enumerate(self._types):
            if item.kind == _KIND_STRUCT and item.name == name:
                try:
                    return self._structure(number)
                except (LookupError, OverflowError, RecursionError):
                    raise ValueError(f"struct {name} has no layout") from None
        raise KeyError(f"struct {name} is not in the BTF")

    def _structure(self, number: int) -> type[ctypes.Structure]:
        if number in self._structs:
            return self._structs[number]
        item = self._types[number]
        fields: list[tuple[str, Any]] = []
        at = 0
        for index, (name, type_id, bits) in enumerate(item.extra):
            kind = self._ctype(type_id)
            offset = (bits & 0xFFFFFF) // 8
            if offset != at:  # holes are explicit in our headers; be exact anyway
                fields.append((f"_hole{index}", ctypes.c_uint8 * (offset - at)))
            fields.append((self._string(name) or f"_anonymous{index}", kind))
            at = offset + ctypes.sizeof(kind)
        if at != item.size_or_type:
            fields.append(("_tail", ctypes.c_uint8 * (item.size_or_type - at)))
        made = type(
            item.name or f"anonymous_{number}",
            (ctypes.LittleEndianStructure,),
            {"_pack_": 1, "_fields_": fields},
        )
        self._structs[number] = made
        return made

    def _ctype(self, number: int) -> Any:
        item = self._types[number]
        if item.kind in (_KIND_TYPEDEF, _KIND_VOLATILE, _KIND_CONST, _KIND_RESTRICT):
            return self._ctype(item.size_or_type)  # recursive: what names itself ends
        if item.kind in (_KIND_INT, _KIND_ENUM):
            signed = item.kind == _KIND_INT and item.extra[0][0] & _INT_SIGNED
            return (_SIGNED if signed else _INTEGERS)[item.size_or_type]
        if item.kind == _KIND_ARRAY:
            element, _index, count = item.extra[0]
            return self._ctype(element) * count
        if item.kind == _KIND_STRUCT:
            return self._structure(number)
        raise ValueError(f"BTF kind {item.kind} has no place in a shared layout")
