# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a peer's endpoints is asked, and which is used: the choice alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brine.daemon import endpoints
from brine.daemon.peers import Attempt, Peer
from brine.roster import Endpoint, parse_endpoint

PLACES = [parse_endpoint(f"192.0.2.{number}:4747") for number in range(1, 5)]
LISTS = st.lists(st.sampled_from(PLACES), unique=True, max_size=4).map(tuple)


def peer(used: Endpoint | None, listed: tuple[Endpoint, ...], roaming: bool = False) -> Peer:
    return Peer(1, b"\1" * 32, "two", used, roaming, listed)


@given(LISTS, st.sampled_from([*PLACES, None]), st.sampled_from([1, 2, 4]), st.data())
def test_every_endpoint_has_its_turn(
    listed: tuple[Endpoint, ...], used: Endpoint | None, ways: int, data: Any
) -> None:
    one = peer(used, listed)
    there = endpoints.known(one)
    leaves = {place for place in there if data.draw(st.booleans())}
    begun = endpoints.first(one, at_ease=data.draw(st.booleans()), doubted=data.draw(st.booleans()))
    assert (begun is None) == (not there)
    if begun is None:
        return
    attempt = Attempt("test", 0, endpoint=begun)
    asked: list[Endpoint] = []
    each = max(endpoints.TRIES, ways)

    def send(to: Endpoint) -> bool:
        if to in leaves:
            asked.append(to)
        return to in leaves

    for _ in range(each * 4):
        endpoints.ask(one, attempt, send, ways)
    if not leaves:
        assert asked == []
        return
    # round the list from where it began, so many in a row, none that cannot be
    start = there.index(begun)
    turn = [place for place in (*there[start:], *there[:start]) if place in leaves]
    expected = [place for place in turn * 4 for _ in range(each)]
    assert asked == expected[: each * 4]
    assert attempt.endpoint == asked[-1]


@given(LISTS.filter(bool), st.data())
def test_where_an_exchange_begins(listed: tuple[Endpoint, ...], data: Any) -> None:
    used = data.draw(st.sampled_from(listed))
    one = peer(used, listed)
    after = listed[(listed.index(used) + 1) % len(listed)]
    assert endpoints.first(one, at_ease=False, doubted=False) == used
    assert endpoints.first(one, at_ease=False, doubted=True) == after
    assert endpoints.first(one, at_ease=True, doubted=False) == listed[0]
    one.roaming = True
    assert endpoints.first(one, at_ease=True, doubted=False) == used


def test_a_list_that_changes_while_an_exchange_is_under_way() -> None:
    one = peer(PLACES[0], tuple(PLACES[:2]))
    attempt = Attempt("test", 0, endpoint=PLACES[1])
    one.endpoints = tuple(PLACES[2:])
    one.endpoint = PLACES[2]
    asked: list[Endpoint] = []

    def send(to: Endpoint) -> bool:
        asked.append(to)
        return True

    endpoints.ask(one, attempt, send, 1)
    assert asked == [PLACES[2]]


@pytest.mark.parametrize(
    ("source", "used", "found"),
    [
        ("192.0.2.2:4747", 0, "192.0.2.2:4747"),
        ("192.0.2.2:999", 0, "192.0.2.2:4747"),  # a translator, or data's port
        ("192.0.2.1:999", 0, "192.0.2.1:4747"),
        ("198.51.100.1:4747", 0, "192.0.2.1:4747"),  # not of the list: nothing follows from it
        ("198.51.100.1:4747", 1, "192.0.2.2:4747"),
    ],
)
def test_where_a_pinned_peer_was_heard_from(source: str, used: int, found: str) -> None:
    one = peer(PLACES[used], tuple(PLACES[:2]))
    assert str(endpoints.heard(one, parse_endpoint(source))) == found
    one.roaming = True
    assert str(endpoints.heard(one, parse_endpoint(source))) == source


def test_two_endpoints_of_one_address_are_told_by_their_ports() -> None:
    listed = tuple(parse_endpoint(f"192.0.2.1:{port}") for port in (1, 2))
    assert endpoints.heard(peer(listed[0], listed), listed[1]) == listed[1]
    assert endpoints.heard(peer(listed[1], listed), parse_endpoint("192.0.2.1:3")) == listed[1]
