# SPDX-License-Identifier: GPL-3.0-or-later
"""The object as such: it loads, and says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bpf import count, elf, stack
from tests.bpf.loaded import Loaded

# Atomic instructions on 64 bits that return the former value: full fences.
ATOMIC64 = 0xDB
EXCHANGE, FETCH_ADD, COMPARE_EXCHANGE = 0xE1, 0x01, 0xF1

SHARED = (
    "config",
    "peer",
    "peer_state",
    "association",
    "box",
    "counters",
    "windows",
    "route_key",
    "endpoint",
    "limit",
    "event",
    "control_request",
    "control_box",
    "message_initiation",
    "message_response",
    "message_cookie",
    "message_data",
    "message_data_keyed",
    "traffic",
    "stat_value",
    "mac1_key",
    "cookie_secret",
    "awaited",
    "source",
)


def test_every_program_is_loaded(loaded: Loaded) -> None:
    for name in ("seal", "open", "control", "selftest_secretbox", "selftest_hsalsa20"):
        assert loaded.program(name).fd > 0


def test_layouts_have_no_holes_the_compiler_chose(loaded: Loaded) -> None:
    """A hole would be uninitialised memory in a map key or a wire message."""
    for name in SHARED:
        fields = [field[0] for field in loaded.struct(name)._fields_]
        assert not [field for field in fields if field.startswith(("_hole", "_tail"))], name


def atomics(path: Path, program: str) -> list[int]:
    return [item.immediate for item in elf.functions(path)[program] if item.code == ATOMIC64]


def test_seal_fences_before_it_copies_and_draws_its_number_atomically(bpf_object: Path) -> None:
    """bpf/association.h, steps 2 and 4. No test run shows them: x86 orders loads by itself, and
    two CPUs share a lane only on machines of more than sixteen."""
    assert atomics(bpf_object, "seal") == [EXCHANGE, FETCH_ADD]


def test_open_fences_before_it_copies_and_marks_by_exchange(bpf_object: Path) -> None:
    found = atomics(bpf_object, "open")
    assert found[0] == EXCHANGE
    # the mark and `highest`, their tries unrolled, and the confirmation of an association
    assert len(found) > 3
    assert set(found[1:]) == {COMPARE_EXCHANGE}


def test_the_verifier_is_far_from_giving_up(loaded: Loaded) -> None:
    """And no program has grown unnoticed."""
    found = count.sizes(loaded)
    print(count.table(found))
    assert all(size.verified and size.instructions for size in found.values())
    assert not count.over(found)


@pytest.mark.parametrize("program", ["seal", "open", "control"])
def test_the_stack_is_deep_enough_on_older_kernels(bpf_object: Path, program: str) -> None:
    depth, chain = stack.chains(bpf_object, program)
    assert 0 < depth <= stack.LIMIT, " > ".join(chain)
    assert len(chain) <= 8
