# SPDX-License-Identifier: GPL-3.0-or-later
"""The self-test programs of bpf/selftest.h as functions of bytes."""

from __future__ import annotations

import ctypes
from typing import Any

from tests.bpf.loaded import Loaded

_ZERO = bytes(4)


class Secretbox:
    """`secretbox_*` and `hsalsa20` of the loaded object."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._map = loaded.map("selftest_work")
        self._operations = loaded.enum("selftest_operation")
        self.text_max = loaded.enum("map_size")["EVENT_DATA_MAX"]  # seal.h: the same

    def _run(self, operation: str, work: Any, length: int) -> tuple[int, Any]:
        self._map.update(_ZERO, bytes(work))
        request = self._loaded.struct("selftest_secretbox")()
        request.operation = self._operations[operation]
        request.length = length
        request.result = 99
        assert self._loaded.program("selftest_secretbox").call(request) == 0
        value = self._map.lookup(_ZERO)
        assert value is not None
        return request.result, self._loaded.struct("secretbox").from_buffer_copy(value)

    def _work(self, text: bytes, *, behind: int) -> Any:
        work = self._loaded.struct("secretbox")()
        ctypes.memset(ctypes.addressof(work), behind, ctypes.sizeof(work))
        ctypes.memmove(work.text, text, len(text))
        return work

    def refuses(self, length: int) -> bool:
        """Whether the program refuses the length before it touches anything."""
        request = self._loaded.struct("selftest_secretbox")()
        request.operation = self._operations["SELFTEST_SEAL"]
        request.length = length
        return self._loaded.program("selftest_secretbox").call(request) == 1

    def seal(self, subkey: bytes, nonce: int, text: bytes, *, behind: int = 0xA5) -> bytes:
        """tag ‖ ciphertext. `behind` fills the work area, which must not matter."""
        work = self._work(text, behind=behind)
        work.subkey[:] = memoryview(subkey).cast("I")
        work.nonce = nonce
        result, after = self._run("SELFTEST_SEAL", work, len(text))
        assert result == 0
        return bytes(after.tag) + bytes(after.text)[: len(text)]

    def open(self, subkey: bytes, nonce: int, box: bytes, *, behind: int = 0xA5) -> bytes | None:
        """The text of tag ‖ ciphertext, or None if it is forged (and then untouched)."""
        work = self._work(box[16:], behind=behind)
        work.subkey[:] = memoryview(subkey).cast("I")
        work.nonce = nonce
        work.tag[:] = memoryview(box[:16]).cast("I")
        result, after = self._run("SELFTEST_OPEN", work, len(box) - 16)
        text = bytes(after.text)[: len(box) - 16]
        if result == 0:
            return text
        assert result == -1
        assert text == box[16:], "decrypted before it verified"
        return None

    def keystream(self, subkey: bytes, nonce: int, length: int) -> bytes:
        """XSalsa20's stream, at least 32 bytes of it."""
        work = self._work(bytes(length - 32), behind=0)
        work.subkey[:] = memoryview(subkey).cast("I")
        work.nonce = nonce
        _result, after = self._run("SELFTEST_SEAL", work, length - 32)
        return bytes(after.mac_key) + bytes(after.text)[: length - 32]

    def poly1305(self, key: bytes, text: bytes) -> bytes:
        """Poly1305 of `text` under the 32 bytes r ‖ s."""
        work = self._work(text, behind=0xA5)
        work.mac_key[:] = memoryview(key).cast("I")
        _result, after = self._run("SELFTEST_MAC", work, len(text))
        return bytes(after.tag)

    def hsalsa20(self, key: bytes, block: bytes) -> bytes:
        request = self._loaded.struct("hsalsa20")()
        request.key[:] = memoryview(key).cast("I")
        request.input[:] = memoryview(block).cast("I")
        assert self._loaded.program("selftest_hsalsa20").call(request) == 0
        return bytes(request.output)
