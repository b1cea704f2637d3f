# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets that wait for an association.

Bounded per peer, so that one silent peer does not push out the packets of the
others, and in total. Over a bound the oldest goes: what an application still
waits for is what it sent last.
"""

from __future__ import annotations

import itertools
from collections import deque

PACKETS_PER_PEER = 64
BYTES_IN_TOTAL = 8 << 20


class HoldQueue:
    """First in, first out, per peer."""

    def __init__(self, per_peer: int = PACKETS_PER_PEER, total_bytes: int = BYTES_IN_TOTAL) -> None:
        self._per_peer = per_peer
        self._total_bytes = total_bytes
        self._packets: dict[int, tuple[int, bytes]] = {}  # by age: sequence -> peer, packet
        self._queues: dict[int, deque[int]] = {}
        self._sequence = itertools.count()
        self.bytes = 0  #: of all packets held
        self.dropped = 0  #: packets that a bound pushed out

    def add(self, peer: int, packet: bytes) -> None:
        """Hold `packet` for `peer`."""
        if len(packet) > self._total_bytes:
            self.dropped += 1
            return
        queue = self._queues.setdefault(peer, deque())
        if len(queue) >= self._per_peer:
            self._drop_oldest(peer)
        while self.bytes + len(packet) > self._total_bytes:
            self._drop_oldest(next(iter(self._packets.values()))[0])
        sequence = next(self._sequence)
        self._packets[sequence] = (peer, packet)
        self._queues.setdefault(peer, queue).append(sequence)
        self.bytes += len(packet)

    def _drop_oldest(self, peer: int) -> None:
        queue = self._queues[peer]
        self.bytes -= len(self._packets.pop(queue.popleft())[1])
        self.dropped += 1
        if not queue:
            del self._queues[peer]

    def take(self, peer: int) -> list[bytes]:
        """All packets held for `peer`, oldest first. They are no longer held."""
        packets = [self._packets.pop(number)[1] for number in self._queues.pop(peer, ())]
        self.bytes -= sum(map(len, packets))
        return packets

    def count(self, peer: int) -> int:
        return len(self._queues.get(peer, ()))
