# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving up what only the start needs, and what would lay keys open: capset(2), prctl(2)."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Iterable

NET_ADMIN, NET_RAW, BPF = 12, 13, 39  # linux/capability.h
_PR_SET_DUMPABLE = 4  # linux/prctl.h
_VERSION_3 = 0x20080522
_HEADER = struct.Struct("<Ii")
_DATA = struct.Struct("<6I")  # effective, permitted, inheritable; twice 32 bits of each


def keep(capabilities: Iterable[int]) -> None:
    """Give up all others, for good: they leave the permitted set too.

    :raises OSError: if the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0))
    data = ctypes.create_string_buffer(_DATA.size)
    if libc.capget(header, data):
        _fail()
    wanted = sum(1 << capability for capability in capabilities)
    found = _DATA.unpack(data.raw[: _DATA.size])
    low, high = wanted & 0xFFFFFFFF, wanted >> 32
    kept = (found[0] & low, found[1] & low, 0, found[3] & high, found[4] & high, 0)
    if libc.capset(header, ctypes.create_string_buffer(_DATA.pack(*kept))):
        _fail()


def no_core_dumps() -> None:
    """No core dump of this process, nor one piped to a program, which ignores the limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _fail() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
