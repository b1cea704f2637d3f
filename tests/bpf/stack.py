# SPDX-License-Identifier: GPL-3.0-or-later
"""How deep the stack of a program becomes, as kernel 6.1 counts it: every function's frame
in steps of 32 bytes, along the deepest chain of calls and callbacks, 512 in all. Newer
kernels take steps of 16 where they compile, so what loads there may not load on 6.1."""

from __future__ import annotations

from pathlib import Path

from tests.bpf.elf import functions

LIMIT = 512
_STEP = 32
_FRAME = 10  # the register
_LOAD, _STORE, _STORE_REGISTER = 1, 2, 3  # classes of instructions
_MOVE, _ADD = 0xBF, 0x07  # rX = rY; rX += immediate


def chains(path: Path, program: str) -> tuple[int, list[str]]:
    """The bytes, and the functions of the deepest chain of `program`."""
    code = functions(path)
    frames, calls = {}, {}
    for name, instructions in code.items():
        deepest = 0
        callees: set[str] = set()
        derived: set[int] = set()
        for item in instructions:
            kind = item.code & 7
            if (kind == _LOAD and item.src == _FRAME) or (
                kind in {_STORE, _STORE_REGISTER} and item.dst == _FRAME
            ):
                deepest = max(deepest, -item.offset)
            if item.code == _MOVE:
                (derived.add if item.src == _FRAME else derived.discard)(item.dst)
            elif item.code == _ADD and item.dst in derived:
                deepest = max(deepest, -item.immediate)
            if item.function in code:
                callees.add(item.function)
        frames[name] = max(1, deepest + _STEP - 1) // _STEP * _STEP or _STEP
        calls[name] = callees

    def below(name: str) -> tuple[int, list[str]]:
        # No recursion: the verifier refuses it.
        size, chain = max(map(below, calls[name]), default=(0, []))
        return frames[name] + size, [name, *chain]

    return below(program)
