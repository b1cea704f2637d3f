# SPDX-License-Identifier: GPL-3.0-or-later
"""An exchange's secrets as the tests make them up, and what brine.keys derives of them."""

from __future__ import annotations

import functools
import os
import struct
from dataclasses import dataclass, field

from brine import keys as library
from tests.bpf.host import Box


@dataclass(frozen=True)
class Secrets:
    """What the two sides' exchange gave."""

    secret: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    header: tuple[bytes, bytes] = field(  # by the sender
        default_factory=lambda: (os.urandom(32), os.urandom(32)), repr=False
    )
    first: tuple[bytes, bytes] = field(  # private keys of generation 0
        default_factory=lambda: (os.urandom(32), os.urandom(32)), repr=False
    )
    indices: tuple[int, int] = field(  # by the receiver
        default_factory=lambda: struct.unpack("<II", os.urandom(8))
    )


@functools.lru_cache(4096)
def oracle(secret: bytes, own: int, peer: int, mine: bytes, theirs: bytes, sending: bool) -> Box:
    """The box of a pair, from both private keys."""
    public, other = library.public_key(mine), library.public_key(theirs)
    dh = library.beforenm(mine, other)
    if sending:
        made = library.derive_box(secret, own, peer, dh, public, other)
    else:
        made = library.derive_box(secret, peer, own, dh, other, public)
    return Box(made.key, made.nonce)


@functools.lru_cache(4096)
def subkey(key: bytes, nonce: bytes) -> bytes:
    return library.subkey(library.Box(key, nonce))
