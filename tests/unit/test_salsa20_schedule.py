# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduled Salsa20 rounds are the plain ones, and the header is what the generator writes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

BPF = Path(__file__).parents[2] / "bpf"
WORD = st.integers(min_value=0, max_value=2**32 - 1)


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_salsa20", BPF / "generate_salsa20.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()


def rotate(word: int, n: int) -> int:
    return (word << n | word >> (32 - n)) & 0xFFFFFFFF


def run(x: list[int], steps: list[tuple[int, int, int, int]]) -> None:
    for d, a, b, n in steps:
        x[d] ^= rotate((x[a] + x[b]) & 0xFFFFFFFF, n)


def plain(x: list[int]) -> list[int]:
    x = list(x)
    for number in range(20):
        for words in generator.ROWS if number % 2 else generator.COLUMNS:
            run(x, generator.quarter_round(*words))
    return x


def start(x: list[int]) -> list[int]:
    """salsa20_start of salsa20.h."""
    x = list(x)
    run(x, generator.quarter_round(*generator.COLUMNS[0])[:2])
    for words in generator.COLUMNS[1:]:
        run(x, generator.quarter_round(*words))
    x.append(x[4])
    run(x, generator.quarter_round(*generator.ROWS[1]))
    run(x, generator.quarter_round(*generator.ROWS[2])[:1])
    return x


def execute(lines: list[str], x: list[int]) -> None:
    """Interpret the few forms of assembly that the generator writes."""
    registers = [0] * 10
    for line in lines:
        if match := re.fullmatch(r"w(\d) = \*\(u32 \*\)%\[x(\d+)\]", line):
            registers[int(match[1])] = x[int(match[2])]
        elif match := re.fullmatch(r"\*\(u32 \*\)%\[x(\d+)\] = w(\d)", line):
            x[int(match[1])] = registers[int(match[2])] & 0xFFFFFFFF
        elif match := re.fullmatch(r"w(\d) (=|\+=|\^=) w(\d)", line):
            to, operation, source = int(match[1]), match[2], registers[int(match[3])]
            value = {"=": source, "+=": registers[to] + source, "^=": registers[to] ^ source}
            registers[to] = value[operation] & 0xFFFFFFFF
        elif match := re.fullmatch(r"r0 (<<|>>)= (\d+)", line):
            shift = int(match[2])
            shifted = registers[0] << shift if match[1] == "<<" else registers[0] >> shift
            registers[0] = shifted & 0xFFFFFFFFFFFFFFFF
        else:
            pytest.fail(f"unknown instruction: {line}")


@given(st.lists(WORD, min_size=16, max_size=16))
def test_schedule_equals_plain_rounds(x: list[int]) -> None:
    counter = x[8]
    state = start([*x[:8], 0, *x[9:]])
    state[8] ^= counter
    execute(generator.allocate(generator.all_steps()), state)
    assert state[:16] == plain(x)


def test_header_is_up_to_date() -> None:
    assert (BPF / "salsa20_scheduled.h").read_text() == generator.render(), (
        "run python3 bpf/generate_salsa20.py > bpf/salsa20_scheduled.h"
    )
