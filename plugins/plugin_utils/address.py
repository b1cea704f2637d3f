# SPDX-License-Identifier: GPL-3.0-or-later
"""The overlay address that follows from a public key."""

from __future__ import annotations

import hashlib
import ipaddress

PREFIX = ipaddress.IPv6Network("fd62:7269:6e65::/48")  # "brine" in ASCII as global id


def overlay_address(public_key: bytes) -> ipaddress.IPv6Address:
    """PREFIX and BLAKE2b-80 of the key.

    brine.keys has the same on the hosts; here it must do without PyNaCl, which a
    controller need not have. A test holds both equal.
    """
    tail = hashlib.blake2b(public_key, digest_size=10, key=b"brine/1 address").digest()
    return ipaddress.IPv6Address(PREFIX.network_address.packed[:6] + tail)
