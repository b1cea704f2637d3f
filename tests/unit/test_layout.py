# SPDX-License-Identifier: GPL-3.0-or-later
"""brine.layout: names of bpf/*.h, as the compiler laid them out."""

from __future__ import annotations

import copy
import ctypes

import pytest

from brine.layout import Layout


@pytest.mark.parametrize(
    ("name", "size"),
    [  # docs/protocol.md, Messages
        ("message_initiation", 1384),
        ("message_response", 1232),
        ("message_cookie", 64),
        ("message_data", 32),
        ("message_data_keyed", 72),
    ],
)
def test_messages_have_the_sizes_of_the_protocol(layout: Layout, name: str, size: int) -> None:
    assert ctypes.sizeof(getattr(layout, name)) == size


def test_enumerators_are_found_by_name(layout: Layout) -> None:
    assert layout.enum("message_type")["MESSAGE_DATA_KEYED"] == 5
    assert layout.enum("route_value")["ROUTE_NONE"] == 0xFFFFFFFF


def test_a_struct_is_looked_up_once(layout: Layout) -> None:
    assert layout.message_cookie is layout.message_cookie


def test_arrays_and_integers_read_back(layout: Layout) -> None:
    message = layout.message_cookie(type=3, receiver=0x01020304)
    message.nonce[:] = bytes(range(24))
    raw = bytes(message)
    assert raw[:8] == bytes((3, 0, 0, 0, 4, 3, 2, 1))
    assert raw[8:32] == bytes(range(24))


def test_what_the_btf_lacks_is_said(layout: Layout) -> None:
    with pytest.raises(AttributeError, match="struct no_such_struct"):
        _ = layout.no_such_struct
    with pytest.raises(KeyError, match="enum no_such_enum"):
        layout.enum("no_such_enum")


def test_a_copy_is_whole(layout: Layout) -> None:
    assert copy.copy(layout).message_response is layout.message_response
