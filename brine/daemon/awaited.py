# SPDX-License-Identifier: GPL-3.0-or-later
"""INITIATIONs of ours that wait for an answer: the data path lets in answers to no others."""

from __future__ import annotations

from brine.daemon.peers import Peer
from brine.daemon.ways import Gate
from brine.exchange import Refused


class Awaited:
    """Their sender indices, of each peer's newest only."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._peers: dict[int, Peer] = {}
        gate.forget_answers()  # that a daemon before this one waited for

    def add(self, index: int, peer: Peer) -> None:
        self._peers[index] = peer
        self._gate.await_answer(index)

    def remove(self, index: int) -> None:
        del self._peers[index]
        self._gate.forget_answer(index)

    def peer(self, index: int) -> Peer:
        """Whose answer it is.

        :raises Refused: if nobody's.
        """
        peer = self._peers.get(index)
        if peer is None:
            raise Refused("an answer that nobody waits for")
        return peer
