# SPDX-License-Identifier: GPL-3.0-or-later
"""How exchanges and timers act on the world: functions, so that tests can have another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from brine.daemon.peers import Peer
from brine.roster import Endpoint


@dataclass
class Ways:
    """What leaves an exchange: `send` a message to an endpoint, `packet` and `keepalive` to be
    sealed, `moved` when a roaming peer is at another endpoint."""

    send: Callable[[bytes, Endpoint], bool]
    packet: Callable[[bytes], bool]
    keepalive: Callable[[int], bool]
    moved: Callable[[Peer, Endpoint], None]
