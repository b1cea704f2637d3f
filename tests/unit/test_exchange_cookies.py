# SPDX-License-Identifier: GPL-3.0-or-later
"""brine.exchange under load: cookies."""

from __future__ import annotations

import os

import pytest

from brine import keys
from brine.exchange import Refused
from brine.layout import Layout
from tests.unit.exchange_pair import Pair, opposite


@pytest.fixture
def pair(layout: Layout) -> Pair:
    return Pair(layout)


def test_a_cookie_is_returned_and_proves_the_source(pair: Pair) -> None:
    rotating, address = os.urandom(32), bytes(10) + b"\xff\xff" + bytes((192, 0, 2, 1))
    value = keys.cookie(rotating, address, 4747)
    first = pair.initiator()
    assert not pair.responder.check_mac2(first.message, value)
    reply = pair.responder.cookie_reply(first.message, value)
    assert first.consume_cookie(reply) == value
    second = pair.initiator(cookie=value)
    assert pair.responder.check_mac2(second.message, value)
    other_port = keys.cookie(rotating, address, 4748)
    assert not pair.responder.check_mac2(second.message, other_port)
    response, theirs = pair.responder.respond(pair.responder.open_initiation(second.message), 5)
    assert opposite(second.consume(response), theirs)


def test_a_cookie_for_another_initiation_is_refused(pair: Pair) -> None:
    one, other = pair.initiator(), pair.initiator()
    reply = pair.responder.cookie_reply(one.message, b"c" * 16)
    with pytest.raises(Refused, match="authenticate"):
        other.consume_cookie(reply)


def test_no_cookie_for_outsiders(pair: Pair) -> None:
    message = bytearray(pair.initiator().message)
    message[100] ^= 1
    for call in (pair.responder.cookie_reply, pair.responder.check_mac2):
        with pytest.raises(Refused, match="mac1"):
            call(bytes(message), b"c" * 16)
