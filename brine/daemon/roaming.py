# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does that roams itself: nobody can reach it that it did not reach first,
and an address translator on the way forgets what is silent.

    no association with a peer                   exchange, at once and then every 60 s
    nothing sent to it for 25 s                  keepalive, which the peer answers within 10 s
    nothing authenticated from it for 65 s       exchange

That peers follow where its packets come from is bpf/roaming.h's and Exchanges' part.
"""

from __future__ import annotations

from brine.daemon.associations import Associations
from brine.daemon.exchanges import Exchanges
from brine.daemon.peers import Peer, PeerTable
from brine.daemon.timers import SECOND, Timers
from brine.daemon.ways import Ways

KEEPALIVE = 25 * SECOND  #: translators keep UDP for 30 s at least, most of them
DEAD = 2 * KEEPALIVE + 15 * SECOND
CONNECT = 60 * SECOND  #: between two attempts, which last 90 s each
AT_ONCE = 8  #: exchanges begun in one tick: a thousand peers need a minute


class Roaming:
    """Keeps this host within reach of its peers, as long as it roams."""

    def __init__(
        self,
        table: PeerTable,
        timers: Timers,
        associations: Associations,
        exchanges: Exchanges,
        ways: Ways,
    ) -> None:
        self.here = False  #: whether this host roams
        self._table = table
        self._timers = timers
        self._associations = associations
        self._exchanges = exchanges
        self._ways = ways

    def tick(self) -> None:
        """Twice a second: look at all peers that can be reached."""
        if not self.here:
            return
        now = self._timers.now()
        begun = 0
        for peer in self._table:
            if peer.endpoint is None or peer.attempt is not None:
                continue
            if self._lost(peer, now):
                if begun < AT_ONCE and now - peer.initiated >= CONNECT:
                    self._exchanges.initiate(peer, "roaming")
                    begun += 1
            elif now - self._associations.state(peer).last_sent >= KEEPALIVE:
                self._ways.keepalive(peer.number)

    def moved(self) -> None:
        """This host is elsewhere, as its peers see by its next packets."""
        if self.here:
            for peer in self._table:
                if peer.current is not None:
                    self._ways.keepalive(peer.number)

    def _lost(self, peer: Peer, now: int) -> bool:
        if peer.current is None:
            return not peer.living
        heard = max(self._associations.state(peer).last_received, peer.current.created)
        return now - heard >= DEAD
