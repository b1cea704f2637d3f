# SPDX-License-Identifier: GPL-3.0-or-later
"""What the passing of time asks for, told from what the data path notes of each peer.

    received data, sent nothing for 10 s        keepalive; from a peer that roams, anything
    sent data, authenticated nothing for 15 s   exchange
    neither sent nor received data for 360 s    erase, unless one of the two roams (roaming.py)
    a first packet opened, its event was lost   the same as with the event

Called every half second; peers without an association cost nothing.
"""

from __future__ import annotations

from brine.daemon.associations import Associations
from brine.daemon.exchanges import Exchanges
from brine.daemon.peers import Peer, PeerTable
from brine.daemon.timers import SECOND, Timers
from brine.daemon.ways import Ways
from brine.records import PeerState

TICK = SECOND // 2
KEEPALIVE = 10 * SECOND
DEAD = 15 * SECOND
IDLE = 360 * SECOND
GRAIN = SECOND // 10  # of the times in peer_states


class Liveness:
    """Looks at the peers that have associations."""

    def __init__(
        self,
        table: PeerTable,
        timers: Timers,
        associations: Associations,
        exchanges: Exchanges,
        ways: Ways,
    ) -> None:
        self.roams = False  #: whether this host does
        self._table = table
        self._timers = timers
        self._associations = associations
        self._exchanges = exchanges
        self._ways = ways

    def tick(self) -> None:
        """Once through all of them."""
        for number, peer in list(self._associations.unconfirmed.items()):
            for living in list(peer.living):
                if living.number == number:
                    self._associations.look(peer, living)
        now = self._timers.now()
        for peer in self._table:
            if peer.living:
                self._look(peer, self._associations.state(peer), now)

    def _look(self, peer: Peer, state: PeerState, now: int) -> None:
        if peer.attempt is None and self._idle(peer, state, now):
            self._associations.erase_all([peer], "idle")
            return
        if state.last_data_sent <= max(state.last_received + GRAIN, peer.ignored):
            peer.unanswered = None
        elif peer.unanswered is None or peer.unanswered <= state.last_received:
            peer.unanswered = state.last_data_sent
        elif now - peer.unanswered >= DEAD and peer.attempt is None:
            self._exchanges.initiate(peer, "no answer")
        # One that roams must learn from us that it still reaches us.
        received = state.last_received if peer.roaming else state.last_data_received
        if received <= state.last_sent + GRAIN:
            peer.unsent = None
        elif peer.unsent is None or peer.unsent <= state.last_sent:
            peer.unsent = received
        elif now - peer.unsent >= KEEPALIVE:
            self._ways.keepalive(peer.number)
            peer.unsent = None

    def _idle(self, peer: Peer, state: PeerState, now: int) -> bool:
        newest = max(living.created for living in peer.living)
        if self.roams or peer.roaming:
            return now - max(newest, state.last_received) >= IDLE
        return now - max(newest, state.last_data_sent, state.last_data_received) >= IDLE
