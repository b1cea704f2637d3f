# SPDX-License-Identifier: GPL-3.0-or-later
"""What `seal` and `open` take for a packet on a host's own maps, by the number of its peers.

Every peer gets an association, installed by the control program under random keys. Packets are
given to the pinned programs by BPF_PROG_TEST_RUN, one run each, since `seal` changes its packet
and `open` takes none twice; a figure is the median of many. The time is the kernel's own, around
the program alone.
"""

from __future__ import annotations

import json
import os
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.tunnels.base import PORT
from bench.tunnels.brine import BrineHost
from brine import config as configuration
from brine import keys
from brine.exchange import Established
from brine.keys import Box
from brine.libbpf import Program
from brine.maps import Maps, boot_ns
from brine.tables import pin_directory
from tests.bpf import packets

RUNS = 4000
PAYLOAD = 1420 - 20 - 8
HOUR = 3600 * 10**9
PEER = "192.0.2.2"  # where the underlay says that packets come from; nobody checks
SEALED, OPENED = 7, 4  # TC_ACT_REDIRECT, XDP_REDIRECT


@dataclass
class Way:
    """To one peer, and back."""

    inner: str
    index: int
    box: Box = field(repr=False)  # of what we receive
    counter: int = 0


class Lookups:
    """`side`, whose daemon does not run, with an association for each peer.

    :raises BrineError: if the maps cannot be used.
    """

    def __init__(self, side: BrineHost) -> None:
        config = configuration.load(side.paths)
        directory = pin_directory(config.bpffs)
        self._host = side.host
        self._seal = Program.pinned(str(directory / "seal"))
        self._open = Program.pinned(str(directory / "open"))
        addresses = {
            keys.parse_key(peer["public_key"]): str(peer["addresses"][0])
            for peer in json.loads(side.paths.roster.read_text(encoding="utf-8"))["peers"]
        }
        with Maps.of(config) as maps:
            for association in maps.associations():
                maps.erase(association.number)
            self._ways = [
                self._install(maps, peer.number, peer.identity, addresses[peer.identity])
                for peer in maps.peers().values()
            ]

    def _install(self, maps: Maps, peer: int, identity: bytes, inner: str) -> Way:
        def box() -> Box:
            return Box(os.urandom(32), os.urandom(16))

        number = maps.free_association(peer)
        made = Established(
            peer_identity=identity,
            own_identity=bytes(32),
            initiated=True,
            local_index=number + 1,
            remote_index=number + 1,
            secret=os.urandom(32),
            send_header_key=os.urandom(32),
            receive_header_key=os.urandom(32),
            own_private=os.urandom(32),
            own_public=os.urandom(32),
            peer_public=os.urandom(32),
            send=box(),
            receive=box(),
        )
        until = boot_ns() + HOUR
        maps.install(number, peer, made, until, until)
        maps.publish(number)
        return Way(inner, made.local_index, made.receive)

    def close(self) -> None:
        self._seal.close()
        self._open.close()

    def measure(self) -> dict[str, float]:
        """ns: see scaling.py."""
        one = self._ways[:1]
        return {
            "seal": self._median(self.seal, one),
            "seal_any": self._median(self.seal, self._ways),
            "open": self._median(self.open, one),
            "open_any": self._median(self.open, self._ways),
        }

    def seal(self, way: Way) -> int:
        """ns for a packet to that peer."""
        inner = packets.udp_packet(self._host.inner, way.inner, bytes(PAYLOAD), ports=(1000, 2000))
        return _timed(self._seal, packets.ethernet(inner), SEALED)

    def open(self, way: Way) -> int:
        """ns for a packet from that peer."""
        inner = packets.udp_packet(way.inner, self._host.inner, bytes(PAYLOAD), ports=(1000, 2000))
        message = packets.data(
            way.box.key, way.box.nonce, way.index, inner, counter=way.counter, lane=0
        )
        way.counter += 1
        outer = packets.udp_packet(PEER, self._host.underlay, message, ports=(50000, PORT))
        return _timed(self._open, packets.ethernet(outer), OPENED)

    def _median(self, measure: Callable[[Way], int], ways: list[Way]) -> float:
        """Each packet another of these ways, as long as there are any."""
        order = random.sample(ways, len(ways))
        chosen = [order[number % len(order)] for number in range(RUNS)]
        return statistics.median(measure(way) for way in chosen)


def _timed(program: Program, frame: bytes, expected: int) -> int:
    run = program.run(frame)
    if run.value != expected:
        raise RuntimeError(f"the packet was not let through: {run.value}")
    return run.nanoseconds
