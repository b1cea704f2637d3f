# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf/admission.h: mac2, which shows a cookie. brine.messages and brine.keys say what is right."""

from __future__ import annotations

import os

import pytest

from brine.messages import COOKIE, RESPONSE
from tests.bpf.host import Host, boot_ns
from tests.bpf.receiver import THEIRS
from tests.bpf.strangers import (
    HOUR,
    LISTED,
    SHOWN_LISTED,
    SHOWN_STRANGERS,
    STRANGER,
    STRANGERS,
    Strangers,
    key,
)

PLACES = [(THEIRS, LISTED, SHOWN_LISTED), (STRANGER, STRANGERS, SHOWN_STRANGERS)]
IDS = ["listed", "stranger"]


@pytest.fixture
def scene(host: Host) -> Strangers:
    return Strangers(host)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("at", "bucket", "shown"), PLACES, ids=IDS)
def test_a_shown_cookie_opens_a_second_bucket(
    scene: Strangers, at: dict[int, str], bucket: str, shown: str, family: int
) -> None:
    scene.empty(bucket)
    message = scene.initiation(cookie=scene.cookie_of(at[family]))
    before = boot_ns()
    assert scene.send(message, at[family]) == "pass_exchange"
    each, _burst = scene.burst(shown.removeprefix("BUDGET_"))
    assert scene.budget(shown) >= before + each
    each, _burst = scene.burst("SOURCE")
    ((found, words),) = scene.sources().items()
    assert (found, words[0]) == (key(at[family]), 0)
    assert words[1] >= before + each
    assert scene.send(scene.initiation(), at[family]) == "limited_host"


def test_it_also_helps_whose_address_is_forged(scene: Strangers) -> None:
    """Somebody floods in a peer's name: the peer itself gets through."""
    scene.spend_source(key(THEIRS[4]), boot_ns() + HOUR)
    assert scene.send(scene.initiation(), THEIRS[4]) == "limited_source"
    message = scene.initiation(cookie=scene.cookie_of(THEIRS[4]))
    assert scene.send(message, THEIRS[4]) == "pass_exchange"


def test_a_cookie_is_not_looked_at_while_there_is_room(scene: Strangers) -> None:
    message = scene.initiation(cookie=os.urandom(16))
    assert scene.send(message, THEIRS[4]) == "pass_exchange"
    assert scene.budget(SHOWN_LISTED) == 0


def test_wrong_cookies_show_nothing(scene: Strangers) -> None:
    scene.empty(LISTED, STRANGERS)
    right = scene.cookie_of(STRANGER[4])
    source = STRANGER[4]
    for wrong in (
        os.urandom(16),
        bytes(16),
        scene.cookie_of(STRANGER[4], 50001),
        scene.cookie_of(STRANGER[6]),
        scene.cookie_of("203.0.113.78"),
        scene.secret[:16],
    ):
        assert scene.send(scene.initiation(cookie=wrong), source) == "limited_host"
    message = scene.initiation(cookie=right)
    assert scene.send(message, source, 50001) == "limited_host"
    assert scene.send(message[:-16] + bytes(16), source) == "limited_host"
    for bit in range(128):
        forged = bytearray(message)
        forged[-16 + bit // 8] ^= 1 << bit % 8
        assert scene.send(bytes(forged), source) == "limited_host", bit
    assert not scene.sources()
    assert scene.budget(SHOWN_STRANGERS) == 0
    assert scene.send(message, source) == "pass_exchange"


def test_mac2_without_mac1_is_nothing(scene: Strangers) -> None:
    cookie = scene.cookie_of(STRANGER[4])
    message = scene.initiation(os.urandom(32), cookie)
    assert scene.send(message, STRANGER[4]) == "mac1"
    assert not scene.charged()


def test_cookies_die_with_their_secret(scene: Strangers) -> None:
    scene.empty(STRANGERS)
    message = scene.initiation(cookie=scene.cookie_of(STRANGER[4]))
    scene.publish(scene.secret, -1)
    assert scene.send(message, STRANGER[4]) == "limited_host"
    scene.publish(os.urandom(32))
    assert scene.send(message, STRANGER[4]) == "limited_host"
    scene.publish(scene.secret)
    assert scene.send(message, STRANGER[4]) == "pass_exchange"


def test_without_a_secret_no_cookie_is_right(scene: Strangers) -> None:
    scene.empty(STRANGERS)
    scene.host.zero("cookie_secrets")
    scene.secret = bytes(32)
    message = scene.initiation(cookie=scene.cookie_of(STRANGER[4]))
    assert scene.send(message, STRANGER[4]) == "limited_host"


@pytest.mark.parametrize(("at", "bucket", "shown"), PLACES, ids=IDS)
def test_those_who_show_a_cookie_are_limited_too(
    scene: Strangers, at: dict[int, str], bucket: str, shown: str
) -> None:
    scene.empty(bucket)
    message = scene.initiation(cookie=scene.cookie_of(at[4]))
    scene.spend_source(key(at[4]), shown=boot_ns() + HOUR)
    assert scene.send(message, at[4]) == "limited_source"
    assert scene.budget(shown) == 0
    scene.spend_source(key(at[4]))
    scene.empty(shown)
    assert scene.send(message, at[4]) == "limited_host"
    for other in (SHOWN_LISTED, SHOWN_STRANGERS):
        scene.spend(other, 0 if other == shown else boot_ns() + HOUR)
    assert scene.send(message, at[4]) == "pass_exchange"


@pytest.mark.parametrize("kind", [RESPONSE, COOKIE])
def test_answers_need_no_room_for_initiations(scene: Strangers, kind: str) -> None:
    """A flood does not keep our own exchanges from their answers."""
    scene.empty(LISTED, STRANGERS, SHOWN_LISTED, SHOWN_STRANGERS)
    scene.spend_source(key(THEIRS[4]), boot_ns() + HOUR, boot_ns() + HOUR)
    assert scene.send(scene.message(kind), THEIRS[4]) == "pass_exchange"
