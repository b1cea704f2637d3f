# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts whose `open` makes no pair: what is sealed for them opens all the same, at once, while
only announcements wait for the daemon; and who forges announcements gets nothing by it."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tests.bpf.installer import image
from tests.bpf.loaded import Loaded
from tests.bpf.ratchet import Two, Word
from tests.bpf.test_ratchet_machine import SIDES, Machine


@pytest.fixture
def punting(two: Two) -> Two:
    """A makes pairs on reception, B does not."""
    two.b.set_punt()
    return two


def test_a_rotation_of_the_peer(punting: Two) -> None:
    """Until the daemon has done its part, nothing is derived and nothing is adopted."""
    a, b = punting.sides
    assert a.rotate() == "DONE"
    assert a.derive() == "DONE"
    before = image(b.host)
    for _ in range(2):
        assert b.take(a.announce()) == "punt_pair"
    after = image(b.host)
    for name in ("boxes", "windows", "counters"):
        assert after[name] == before[name]
    assert b.word.peer == 0
    assert b.take(a.data()) == "ok"  # on the keys before
    assert b.asked() == ["DONE", "DONE"]
    serial = b.slots(0, 1)[1].serial
    assert b.word.peer == 0
    assert b.take(a.announce()) == "keepalive"
    assert b.word.peer == 1
    assert b.slots(0, 1)[1].serial == serial  # made once
    assert a.take(b.data()) == "ok"
    assert "unproved" not in a.word.flags
    frame = a.data()
    assert frame is not None
    assert b.take(frame) == "ok"
    assert a.word.send == (1, 0)
    b.check()


def test_announcements_that_cross(punting: Two) -> None:
    """Both hosts leave it to their daemons, and both have rotated."""
    a, b = punting.sides
    a.set_punt()
    for side in (a, b):
        assert side.rotate() == "DONE"
        assert side.derive() == "DONE"
    for side in (a, b):
        assert side.other.take(side.announce()) == "punt_pair"
    for side in (a, b):
        assert side.asked() == ["DONE"]
        assert side.pairs() == {(0, 0), (0, 1), (1, 0)}
    assert b.take(a.announce()) == "keepalive"
    assert b.derive() == "DONE"
    assert a.take(b.announce()) == "punt_pair"  # of both new keys
    assert a.asked() == ["DONE"]
    for _ in range(2):
        for side in (a, b):
            assert side.other.take(side.announce()) == "keepalive"
            assert side.other.take(side.data()) == "ok"
    for side in (a, b):
        assert side.word.send == (1, 1)
        side.check()


def test_the_daemon_is_gone_once_a_key_is_adopted(punting: Two) -> None:
    """Both rotate; B's daemon makes what it is asked for, and then nothing more. Wherever A
    sends data, B has the pair."""
    a, b = punting.sides
    for side in (a, b):
        side.rotate()
        side.derive()
    assert b.take(a.announce()) == "punt_pair"
    assert b.asked() == ["DONE"]
    early = b.announce()
    assert b.take(a.announce()) == "keepalive"
    assert a.take(early) == "keepalive"
    assert a.derive() == "DONE"
    for _ in range(3):
        assert a.take(b.data()) == "ok"
        assert b.take(a.data()) == "ok"
        assert b.take(a.announce()) == "punt_pair"  # of both new keys
    assert b.asked() == ["DONE"] * 3
    assert b.take(a.announce()) == "keepalive"
    assert b.take(a.data()) == "ok"


def test_forged_announcements_reach_nobody(punting: Two) -> None:
    """No event, no budget: only what header_tag vouches for gets so far."""
    a, b = punting.sides
    a.rotate()
    b.host.events()
    for counter in range(50):
        frame = b.forge(0, 1, keyed=True, tag=os.urandom(8), counter=counter)
        assert b.take(frame) == "header_tag"
    assert b.host.events() == []
    assert b.association.derivations == 0


def test_a_sound_header_of_a_forged_packet_adopts_nothing(punting: Two) -> None:
    """Somebody has cut off an announcement and changed its end. The pair that is made of it
    is the one that the announcement itself would have made."""
    a, b = punting.sides
    a.rotate()
    a.derive()
    frame = a.announce()
    assert frame is not None
    spoilt = frame[:-1] + bytes([frame[-1] ^ 1])
    assert b.take(spoilt) == "punt_pair"
    assert b.asked() == ["DONE"]
    for _ in range(20):
        assert b.take(spoilt) == "forged"
    assert b.asked() == []
    assert b.word == Word(0, 0, (0, 0), frozenset(), b.word.instance)
    assert b.take(frame) == "keepalive"
    assert b.word.peer == 1


def test_repeated_announcements_are_limited_while_the_daemon_is_away(punting: Two) -> None:
    """By the budget of the association: the daemon is told four times at once."""
    a, b = punting.sides
    a.rotate()
    a.derive()
    frame = a.announce()
    b.host.events()
    reasons = [b.take(frame) for _ in range(50)]
    assert reasons == ["punt_pair"] * 4 + ["budget"] * 46
    assert b.asked() == ["DONE"] * 4
    assert b.take(frame) == "keepalive"


def test_an_event_of_the_last_tenant(punting: Two) -> None:
    """It waited in the ring while the association was replaced."""
    a, b = punting.sides
    a.rotate()
    a.derive()
    assert b.take(a.announce()) == "punt_pair"
    b.wait()
    punting.renew()
    assert b.asked() == ["ILLEGAL"]
    assert b.pairs() == {(0, 0)}
    a.rotate()
    a.derive()
    assert b.take(a.announce()) == "punt_pair"
    assert b.asked() == ["DONE"]
    assert b.take(a.announce()) == "keepalive"


def test_back_to_derivation_on_reception(punting: Two) -> None:
    """Between the event and the daemon: each makes what it finds missing, once."""
    a, b = punting.sides
    a.rotate()
    a.derive()
    assert b.take(a.announce()) == "punt_pair"
    b.set_punt(False)
    assert b.take(a.announce()) == "keepalive"
    serial = b.slots(0, 1)[1].serial
    assert b.asked() == ["DONE"]
    assert b.slots(0, 1)[1].serial == serial
    assert b.take(a.data()) == "ok"


def test_no_work_area_keeps_a_secret(punting: Two) -> None:
    a, b = punting.sides
    a.rotate()
    b.rotate()
    assert b.take(b.forge(0, 1, keyed=True)) == "punt_pair"
    assert b.asked() == ["DONE"]
    left = b"".join(b.host.value(name, 0) for name in ("open_pair_areas", "control_areas"))
    held = [b.privates[0], b.privates[1], b.secrets.secret, b.secrets.header[0]]
    held += [bytes(box.subkey) for box in b.slots(0, 1)]
    for secret in held:
        for at in range(0, 32, 8):
            assert secret[at : at + 8] not in left


class PuntingMachine(Machine):
    """As `Machine`, but some sides have their daemon make pairs, whenever it comes to that."""

    punts: tuple[int, ...]

    def __init__(self, *loads: Loaded) -> None:
        super().__init__(*loads)
        for which in self.punts:
            self.side(which).set_punt()

    @rule(which=SIDES)
    def daemon(self, which: int) -> None:
        assert set(self.side(which).asked()) <= {"DONE", "ILLEGAL"}

    @precondition(lambda self: self.exchange < 2)
    @rule()
    def exchange_anew(self) -> None:
        """What the daemons have been asked and did not see waits on."""
        for side in self.two.sides:
            side.wait()
        super().exchange_anew()

    def mend(self, which: int) -> None:
        super().mend(which)
        self.side(1 - which).asked()
        self.given(1 - which, self.sealed(which, self.side(which).announce()))


@pytest.mark.parametrize("sides", [(1,), (0, 1)], ids=["one punts", "both punt"])
def test_two_hosts_and_a_bad_link(
    loaded: Loaded, loaded_other: Loaded, sides: tuple[int, ...]
) -> None:
    class Here(PuntingMachine):
        punts = sides

        def __init__(self) -> None:
            super().__init__(loaded, loaded_other)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
