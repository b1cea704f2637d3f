# SPDX-License-Identifier: GPL-3.0-or-later
"""What bench/primitives.py times is the work it says, as often as it says."""

from __future__ import annotations

import ctypes
import hashlib
from typing import Any

import pytest
from nacl import bindings

from tests.bpf.loaded import Loaded
from tests.bpf.primitives import ZERO, area

PRIVATE, SECRET = hashlib.sha256(b"private").digest(), hashlib.sha256(b"secret").digest()
PUBLIC = bindings.crypto_scalarmult_base(hashlib.sha256(b"peer").digest())


def run(loaded: Loaded, operation: int, repeat: int, length: int = 0) -> int:
    request = loaded.struct("selftest_bench")(operation=operation, repeat=repeat, length=length)
    done = loaded.program("selftest_bench").run(context=bytes(request))
    assert done.value == 0
    return int(loaded.struct("selftest_bench").from_buffer_copy(done.context).done)


@pytest.fixture
def operations(loaded: Loaded) -> dict[str, int]:
    given = loaded.struct("selftest_derive_area")()
    for name, value in (("own_private", PRIVATE), ("peer_public", PUBLIC), ("secret", SECRET)):
        ctypes.memmove(ctypes.addressof(getattr(given, name)), value, len(value))
    loaded.map("selftest_derive_work").update(ZERO, bytes(given))
    names = loaded.enum("selftest_bench_operation")
    return {name.removeprefix("SELFTEST_BENCH_"): value for name, value in names.items()}


def test_x25519(loaded: Loaded, operations: dict[str, int]) -> None:
    assert run(loaded, operations["X25519"], 3) == 3
    shared = bytes(area(loaded).derive.x25519.shared)
    assert shared == bindings.crypto_scalarmult(PRIVATE, PUBLIC)


def test_blake2b(loaded: Loaded, operations: dict[str, int]) -> None:
    """The text is what the key left in the block."""
    assert run(loaded, operations["BLAKE2B"], 3) == 3
    text = SECRET + bytes(109 - len(SECRET))
    expected = hashlib.blake2b(text, digest_size=48, key=SECRET).digest()
    assert bytes(area(loaded).blake2b.state)[:48] == expected


@pytest.mark.parametrize("length", [64, 1420])
def test_secretbox(loaded: Loaded, operations: dict[str, int], length: int) -> None:
    """To seal n times is to add the same stream n times; so is to open without a verdict."""
    kind: Any = loaded.struct("secretbox")
    loaded.map("selftest_work").update(ZERO, bytes(kind()))
    texts = []
    for operation, repeat in (("SEAL", 1), ("SEAL", 2), ("OPEN", 1), ("OPEN", 1)):
        assert run(loaded, operations[operation], repeat, length) == repeat
        value = kind.from_buffer_copy(loaded.map("selftest_work").lookup(ZERO) or b"")
        texts.append(bytes(value.text)[:length])
    assert texts[0] == texts[1] == texts[3]
    assert texts[0] != bytes(length) == texts[2]


def test_an_unknown_operation_runs_nothing(loaded: Loaded) -> None:
    assert run(loaded, 99, 5) <= 1
