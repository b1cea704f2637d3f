# SPDX-License-Identifier: GPL-3.0-or-later
"""The self-test programs of bpf/selftest_derive.h as functions of bytes."""

from __future__ import annotations

import ctypes
from typing import Any

from tests.bpf.loaded import Loaded

ZERO = bytes(4)


def _run(loaded: Loaded, program: str, **fields: Any) -> Any:
    request = loaded.struct(program)()
    for name, value in fields.items():
        if isinstance(value, bytes):
            part = getattr(request, name)
            assert ctypes.sizeof(part) == len(value), name
            ctypes.memmove(ctypes.addressof(part), value, len(value))
        else:
            setattr(request, name, value)
    run = loaded.program(program).run(context=bytes(request))
    assert run.value == 0
    return loaded.struct(program).from_buffer_copy(run.context)


def x25519(loaded: Loaded, private: bytes, public: bytes) -> tuple[int, bytes]:
    """``x25519()``: its result code and the shared secret."""
    done = _run(loaded, "selftest_x25519", private=private, public=public)
    return done.result, bytes(done.shared)


def area(loaded: Loaded) -> Any:
    """What the last run left in the work area."""
    value = loaded.map("selftest_derive_work").lookup(ZERO)
    assert value is not None
    return loaded.struct("selftest_derive_area").from_buffer_copy(value)


def blake2b(loaded: Loaded, text: bytes, digest_bytes: int, key: bytes = b"") -> bytes | None:
    """BLAKE2b of `text`, or None if the program refuses a length."""
    given = loaded.struct("selftest_derive_area")()
    ctypes.memmove(given.key, key, min(len(key), ctypes.sizeof(given.key)))
    ctypes.memmove(given.text, text, min(len(text), ctypes.sizeof(given.text)))
    loaded.map("selftest_derive_work").update(ZERO, bytes(given))
    done = _run(
        loaded,
        "selftest_blake2b",
        digest_bytes=digest_bytes,
        key_bytes=len(key),
        text_bytes=len(text),
    )
    return None if done.result else bytes(done.digest)[:digest_bytes]


def derive(loaded: Loaded, **fields: Any) -> Any:
    """``derive_dh()`` and ``derive_box()``: a ``struct selftest_derive``."""
    return _run(loaded, "selftest_derive", **fields)


def header_tag(loaded: Loaded, header_key: bytes, header: bytes, key: bytes) -> bytes:
    """``header_tag()``: 8 bytes."""
    done = _run(loaded, "selftest_header_tag", header_key=header_key, header=header, key=key)
    return int(done.tag).to_bytes(8, "little")
