# SPDX-License-Identifier: GPL-3.0-or-later
"""How exchanges and timers act on the world: functions, so that tests can have another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from brine.daemon.peers import Peer
from brine.roster import Endpoint


class Gate(Protocol):
    """What the data path goes by when it decides which messages reach us (bpf/admission.h).
    maps.py has it."""

    def accept_mac1(self, mac1_keys: Sequence[bytes]) -> None: ...
    def publish_cookie_secret(self, secret: bytes, not_after: int) -> None: ...
    def await_answer(self, index: int) -> None: ...
    def forget_answer(self, index: int) -> None: ...
    def forget_answers(self) -> None: ...


@dataclass
class Ways:
    """What leaves an exchange: `send` a message to an endpoint, `packet` and `keepalive` to be
    sealed, `moved` when a peer is to be reached at another endpoint, `gate` for what comes in."""

    send: Callable[[bytes, Endpoint], bool]
    packet: Callable[[bytes], bool]
    keepalive: Callable[[int], bool]
    moved: Callable[[Peer, Endpoint], None]
    gate: Gate
