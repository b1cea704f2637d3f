# SPDX-License-Identifier: GPL-3.0-or-later
"""`open` and the ratchet by table: what every kind of packet does in every state."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.bpf.host import Host
from tests.bpf.loaded import Loaded
from tests.bpf.ratchet import SLOT, Side, Two

State = Callable[[Two], None]


def fresh(two: Two) -> None:
    """(0, 0) alone."""


def rotated(two: Two) -> None:
    """B has made generation 1; nothing went over yet."""
    assert two.b.rotate() == "DONE"


def adopted(two: Two) -> None:
    """A's generation 1 is adopted, and A still sends under 0."""
    two.a.rotate()
    two.a.derive()
    two.b.take(two.a.announce())
    two.later(11)


def moved(two: Two) -> None:
    """A sends data under 1; B has let go of 0."""
    two.rotated(two.a)


def crossed(two: Two) -> None:
    """Both have adopted a key of the other; the pair of both new ones is not made."""
    for side in two.sides:
        side.rotate()
        side.derive()
    frames = [side.announce() for side in two.sides]
    two.b.take(frames[0])
    two.a.take(frames[1])
    two.later(11)


def adopting(two: Two) -> None:
    """Another CPU is writing A's generation 1."""
    held = two.b.association
    held.ratchet.flags |= two.b.host.loaded.enum("ratchet_flag")["RATCHET_ADOPTING"]
    two.b.host.write("associations", SLOT, held)


def just_adopted(two: Two) -> None:
    """Less than ten seconds ago."""
    adopted(two)
    held = two.b.association
    held.peer_since[1] += 5 * 10**9
    two.b.host.write("associations", SLOT, held)


def behind(two: Two) -> None:
    """Adopted, but data is still sent on the pair before: its box is not made."""
    adopted(two)
    held = two.b.association
    held.ratchet.send_peer = 0
    two.b.host.write("associations", SLOT, held)


@dataclass(frozen=True)
class Case:
    """What B says of a packet of the pair (B's, A's)."""

    state: State
    own: int
    peer: int
    keyed: bool
    reason: str
    makes: bool = False
    how: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        kind = "DATA_KEYED" if self.keyed else "DATA"
        return f"{self.state.__name__}: {kind} of ({self.own}, {self.peer}) is {self.reason}"


K = "keepalive"
CASES = [
    # the pair that is there
    Case(fresh, 0, 0, False, K),
    Case(fresh, 0, 0, True, K),
    # a key one up: announced only
    Case(fresh, 0, 1, False, "no_box"),
    Case(fresh, 0, 1, True, K, makes=True),
    # two up, or of ours what is not
    Case(fresh, 0, 2, True, "no_box"),
    Case(fresh, 0, 255, True, "no_box"),
    Case(fresh, 1, 0, False, "no_box"),
    Case(fresh, 1, 0, True, "no_box"),
    Case(fresh, 1, 1, True, "no_box"),
    Case(fresh, 255, 0, True, "no_box"),
    # B has rotated: the pairs of its new key and the old are made on sight
    Case(rotated, 0, 0, False, K),
    Case(rotated, 1, 0, False, K, makes=True),
    Case(rotated, 1, 0, True, K, makes=True),
    Case(rotated, 0, 1, True, K, makes=True),
    Case(rotated, 1, 1, True, K, makes=True),
    Case(rotated, 1, 1, False, "no_box"),
    Case(rotated, 2, 0, False, "no_box"),
    # A's key before the last
    Case(adopted, 0, 0, False, K),
    Case(adopted, 0, 1, False, K),
    Case(adopted, 0, 2, True, K, makes=True),
    Case(adopted, 0, 2, False, "no_box"),
    Case(adopted, 0, 3, True, "no_box"),
    Case(just_adopted, 0, 2, True, "no_box"),
    Case(behind, 0, 2, True, "no_box"),
    Case(moved, 0, 0, False, "no_box"),
    Case(moved, 0, 0, True, "no_box"),
    Case(moved, 0, 1, False, K),
    Case(moved, 0, 2, True, K, makes=True),
    # of crossing rotations all four
    Case(crossed, 0, 0, False, K),
    Case(crossed, 1, 0, False, K),
    Case(crossed, 0, 1, False, K),
    Case(crossed, 1, 1, False, K, makes=True),
    Case(crossed, 1, 1, True, K, makes=True),
    Case(crossed, 1, 2, True, K, makes=True),
    # one CPU at a time
    Case(adopting, 0, 0, False, K),
    Case(adopting, 0, 1, True, "no_box"),
    # header_tag, where it decides
    Case(fresh, 0, 1, True, "header_tag", how={"tag": bytes(8)}),
    Case(fresh, 0, 1, True, "header_tag", how={"tag": b"\1" * 8}),
    Case(fresh, 0, 0, True, K, how={"tag": bytes(8)}),
    Case(crossed, 1, 1, True, K, makes=True, how={"tag": bytes(8)}),
]


def known(side: Side, case: Case) -> None:
    """The oracle gets a key that A has not made, so that the packet is whole."""
    for one, number in ((side.other, case.peer), (side, case.own)):
        one.privates.setdefault(number, os.urandom(32))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_packet_does(two: Two, case: Case) -> None:
    case.state(two)
    side = two.b
    known(side, case)
    side.host.events()
    before = side.pairs()
    assert side.take(side.forge(case.own, case.peer, keyed=case.keyed, **case.how)) == case.reason
    gone = {(own, peer) for own, peer in before if own == case.own and peer + 2 == case.peer}
    after = before - gone | {(case.own, case.peer)} if case.makes else before
    assert side.pairs() == after
    if case.makes or case.reason == K:
        assert side.state(case.own, case.peer) == "published"
    told = [event[0] for event in side.host.events()]
    assert ("EVENT_RATCHET" in told) >= (case.keyed and case.reason == K)


@pytest.mark.parametrize("case", [case for case in CASES if case.makes], ids=str)
def test_a_host_that_punts_asks_for_the_same_pairs(
    loaded: Loaded, loaded_other: Loaded, case: Case
) -> None:
    """And none other, with what `control` needs to make them; the packet, repeated, then
    opens."""
    hosts = Host(loaded), Host(loaded_other)
    two = Two(*hosts)
    case.state(two)
    side = two.b
    side.set_punt()
    known(side, case)
    side.host.events()
    frame = side.forge(case.own, case.peer, keyed=case.keyed, **case.how)
    before = side.pairs()
    assert side.take(frame) == "punt_pair"
    assert side.pairs() == before
    ((kind, peer, association, data),) = side.host.events()
    assert (kind, peer, association) == ("EVENT_DERIVE", 1, SLOT)
    said = side.host.loaded.struct("event_derive").from_buffer_copy(data)
    announced = case.keyed and case.peer > side.word.peer
    assert (said.own_generation, said.peer_generation) == (case.own, case.peer)
    assert said.keyed == announced
    assert bytes(said.key) == (side.other.public(case.peer) if announced else bytes(32))
    assert said.instance == side.word.instance
    assert side.derive_pair(case.own, case.peer, keyed=announced) == "DONE"
    side.check()
    assert side.take(frame) == "keepalive"
    assert side.state(case.own, case.peer) == "published"
    for host in hosts:
        host.close()


@pytest.mark.parametrize("state", ["claimed", "failed"])
def test_a_pair_that_is_claimed_or_failed_is_not_tried(two: Two, state: str) -> None:
    side = two.b
    two.a.rotate()
    number = side.slot(0, 1, sending=False)
    box = side.host.read("boxes", "box", number)
    box.state = side.host.loaded.enum("box_state")[f"BOX_{state.upper()}"]
    box.sender_generation, box.receiver_generation = 1, 0
    side.host.write("boxes", number, box)
    assert side.take(side.forge(0, 1, keyed=True)) == "no_box"
    assert side.association.derivations == 0


@pytest.mark.parametrize(
    "key", [bytes(32), b"\1" + bytes(31), None], ids=["zeros", "one", "our own"]
)
def test_a_key_that_makes_no_box_is_tried_once(two: Two, key: bytes | None) -> None:
    a, b = two.sides
    a.rotate()
    frame = b.forge(0, 1, keyed=True, key=key or b.public(0))
    assert b.take(frame) == "bad_key"
    assert b.state(0, 1) == "failed"
    assert b.take(frame) == "no_box"
    # Nor is the sound one: the peer is beyond help, and the daemon exchanges anew.
    assert b.take(b.forge(0, 1, keyed=True)) == "no_box"
    assert b.word.peer == 0
    assert b.take(a.data()) == "ok"
    b.check()


def test_the_derivations_of_an_association_are_limited(two: Two) -> None:
    """Four at once, one more every ten seconds. What is over is not made."""
    side = two.b
    crossed(two)
    side.later(100)
    known(side, Case(crossed, 1, 2, True, K))
    assert side.take(side.forge(1, 1)) == K  # 1
    assert side.take(side.forge(0, 2, keyed=True)) == K  # 2: adopted
    assert side.word.peer == 2
    assert side.take(side.forge(1, 2)) == K  # 3
    known(side, Case(crossed, 1, 3, True, K))
    held = side.association
    held.peer_since[0] -= 11 * 10**9
    side.host.write("associations", SLOT, held)
    assert side.take(side.forge(0, 3, keyed=True)) == K  # 4
    assert side.take(side.forge(1, 3)) == "budget"
    side.host.zero("budgets")
    assert side.take(side.forge(1, 3)) == "budget"
    held = side.association
    held.derivations -= 10 * 10**9
    side.host.write("associations", SLOT, held)
    assert side.take(side.forge(1, 3)) == K
    side.check()


def test_the_derivations_of_a_host_are_limited(two: Two) -> None:
    side = two.b
    two.a.rotate()
    spent = side.association.created + 3600 * 10**9
    side.host.loaded.map("budgets").update(bytes(4), spent.to_bytes(8, "little"))
    assert side.take(side.forge(0, 1, keyed=True)) == "budget"
    side.host.zero("budgets")
    assert side.take(side.forge(0, 1, keyed=True)) == K


def test_forged_announcements_cost_no_derivation(two: Two) -> None:
    """No more of them than that, whatever the budget: it stays whole."""
    side = two.b
    two.a.rotate()
    for counter in range(200):
        frame = side.forge(0, 1, keyed=True, tag=os.urandom(8), counter=counter)
        assert side.take(frame) == "header_tag"
    assert side.association.derivations == 0
    assert not any(side.host.value("budgets", 0))
    assert side.state(0, 1) == "none"
    assert side.take(side.forge(0, 1, keyed=True)) == K


def test_replayed_announcements_cost_a_look(two: Two) -> None:
    side = two.b
    two.a.rotate()
    frame = side.forge(0, 1, keyed=True)
    assert side.take(frame) == K
    spent = side.association.derivations
    for _ in range(50):
        assert side.take(frame) == "replay"
    assert side.association.derivations == spent


def test_no_announcement_before_the_association_is_confirmed(
    loaded: Loaded, loaded_other: Loaded
) -> None:
    hosts = Host(loaded), Host(loaded_other)
    two = Two(*hosts)
    side = two.b
    held = side.association
    held.state = side.host.loaded.enum("association_state")["ASSOCIATION_PENDING"]
    side.host.write("associations", SLOT, held)
    two.a.rotate()
    assert side.take(side.forge(0, 1, keyed=True)) == "no_box"
    assert side.take(side.forge(0, 0, counter=5)) == K
    assert side.take(side.forge(0, 1, keyed=True)) == K
    for host in hosts:
        host.close()


def test_pairs_expire_with_their_keys(two: Two) -> None:
    """300 and 360 seconds after the elder of both keys was made or adopted."""
    a, b = two.sides
    two.later(100)
    a.rotate()
    a.derive()
    b.take(a.announce())
    a.take(b.keepalive())
    for side, pair in ((a, (1, 0)), (b, (0, 1))):
        send, receive = side.slots(*pair)
        eldest = side.association.own_since[0] if side is b else side.association.peer_since[0]
        assert send.not_after == (eldest + 300 * 10**9) % 2**64
        assert receive.not_after == (eldest + 360 * 10**9) % 2**64
    two.later(190)
    late = b.forge(0, 1, lane=3)
    a.host.stats()
    assert a.data() is None
    assert a.host.stats() == {"seal_expired": 1}
    assert b.take(late) == "keepalive"
    two.later(60)
    assert b.take(b.forge(0, 1, lane=4)) == "expired"


def test_a_pair_outlives_no_association(two: Two) -> None:
    side = two.b
    held = side.association
    held.send_not_after = held.created + 60 * 10**9
    held.receive_not_after = held.created + 120 * 10**9
    side.host.write("associations", SLOT, held)
    two.a.rotate()
    assert side.take(side.forge(0, 1, keyed=True)) == K
    send, receive = side.slots(0, 1)
    assert (send.not_after, receive.not_after) == (held.send_not_after, held.receive_not_after)


def test_nothing_stays_in_the_work_areas(two: Two) -> None:
    side = two.b
    two.a.rotate()
    for frame in (
        side.forge(0, 1, keyed=True, tag=bytes(8)),
        side.forge(0, 1, keyed=True),
        side.forge(0, 1, keyed=True),
    ):
        side.take(frame)
        areas = b"".join(side.host.value(name, 0) for name in ("open_pair_areas", "open_areas"))
        subkey = bytes(side.slots(0, 1)[1].subkey)
        held = (side.privates[0], side.secrets.secret, side.secrets.header[0], subkey)
        for secret in held:
            if any(secret):
                for at in range(0, 32, 8):
                    assert secret[at : at + 8] not in areas
