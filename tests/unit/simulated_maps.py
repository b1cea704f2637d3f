# SPDX-License-Identifier: GPL-3.0-or-later
"""What a simulated host (simulated.py) has in place of maps: they keep the rules of the control
program (bpf/control.h)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from brine import messages
from brine.daemon.timers import SECOND
from brine.exchange import Established
from brine.layout import Layout
from brine.records import Association, ControlError, PeerState, Ratchet


class Clock(Protocol):
    now: int  #: ns


@dataclass
class Slot:
    association: Association
    secret: bytes
    counter: int = 0
    opened: set[int] = field(default_factory=set)


@dataclass
class SimulatedMaps:
    """`associations`, `indices` and `peer_states` under the rules of the control program."""

    world: Clock
    max_associations: int = 32
    slots: dict[int, Slot] = field(default_factory=dict)
    rest: dict[int, int] = field(default_factory=dict)
    states: dict[int, PeerState] = field(default_factory=dict)
    published: list[int] = field(default_factory=list)
    mac1_keys: tuple[bytes, ...] = ()
    cookie_secret: tuple[bytes, int] = (b"", 0)
    awaited: set[int] = field(default_factory=set)

    # what lets messages of the exchange in

    def accept_mac1(self, mac1_keys: Sequence[bytes]) -> None:
        self.mac1_keys = tuple(mac1_keys)

    def publish_cookie_secret(self, secret: bytes, not_after: int) -> None:
        self.cookie_secret = secret, not_after

    def await_answer(self, index: int) -> None:
        self.awaited.add(index)

    def forget_answer(self, index: int) -> None:
        self.awaited.discard(index)

    def forget_answers(self) -> None:
        self.awaited.clear()

    def admits(self, layout: Layout, message: bytes) -> bool:
        """Apart from buckets: see bpf/admission.h."""
        kind = messages.kind(layout, message)
        if kind != messages.INITIATION and messages.receiver(layout, message) not in self.awaited:
            return False
        return kind == messages.COOKIE or any(
            messages.mac1_is_valid(layout, message, key) for key in self.mac1_keys
        )

    def associations(self) -> list[Association]:
        return [slot.association for slot in self.slots.values()]

    def association(self, number: int) -> Association | None:
        slot = self.slots.get(number)
        return slot.association if slot else None

    def peer_state(self, number: int) -> PeerState:
        return self.states.get(number, PeerState(None, 0, 0, 0, 0))

    def install(
        self,
        number: int,
        peer: int,
        established: Established,
        send_not_after: int,
        receive_not_after: int,
    ) -> None:
        if number in self.slots:
            raise ControlError("CONTROL_NOT_FREE")
        if self.world.now < self.rest.get(number, 0):
            raise ControlError("CONTROL_RESTING")
        if any(s.association.local_index == established.local_index for s in self.slots.values()):
            raise ControlError("CONTROL_INDEX_TAKEN")
        self.slots[number] = Slot(
            Association(
                number=number,
                peer=peer,
                state="unconfirmed" if established.initiated else "pending",
                local_index=established.local_index,
                remote_index=established.remote_index,
                created=self.world.now,
                send_not_after=send_not_after,
                receive_not_after=receive_not_after,
                initiated=established.initiated,
                ratchet=Ratchet.first(self.world.now),
            ),
            established.secret,
        )

    def publish(self, number: int) -> None:
        slot = self.slots.get(number)
        if slot is None or slot.association.state == "pending":
            raise ControlError("CONTROL_NO_ASSOCIATION")
        self.published.append(number)
        self.set_sending(slot.association.peer, number)

    def erase(self, number: int) -> None:
        slot = self.slots.pop(number, None)
        if slot is not None:
            self.rest[number] = self.world.now + 10 * SECOND
            if self.peer_state(slot.association.peer).sending == number:
                self.set_sending(slot.association.peer, None)

    def set_sending(self, peer: int, number: int | None) -> None:
        self.states[peer] = replace(self.peer_state(peer), sending=number)
