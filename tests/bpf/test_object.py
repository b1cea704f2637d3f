# SPDX-License-Identifier: GPL-3.0-or-later
"""The object as such: it loads, and says what it is."""

from __future__ import annotations

from tests.bpf.loaded import Loaded

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
)


def test_every_program_is_loaded(loaded: Loaded) -> None:
    for name in ("seal", "open", "control", "selftest_secretbox", "selftest_hsalsa20"):
        assert loaded.program(name).fd > 0


def test_layouts_have_no_holes_the_compiler_chose(loaded: Loaded) -> None:
    """A hole would be uninitialised memory in a map key or a wire message."""
    for name in SHARED:
        fields = [field[0] for field in loaded.struct(name)._fields_]
        assert not [field for field in fields if field.startswith(("_hole", "_tail"))], name
