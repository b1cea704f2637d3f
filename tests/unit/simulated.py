# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts on one clock that jumps: the daemon's real exchanges and timers, real cryptography,
and in place of maps and programs a data path that keeps their rules (bpf/control.h, seal.h,
open.h). The real ones are tested by tests/integration; here an hour passes in a second.
"""

from __future__ import annotations

import heapq
import ipaddress
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from brine import keys
from brine.daemon.associations import Associations
from brine.daemon.exchanges import Exchanges
from brine.daemon.hold import HoldQueue
from brine.daemon.indices import Indices
from brine.daemon.journal import ERROR, Log
from brine.daemon.liveness import TICK, Liveness
from brine.daemon.peers import Peer, PeerTable
from brine.daemon.roaming import Roaming
from brine.daemon.timers import SECOND, Timers
from brine.daemon.timestamps import Floors, OwnTimestamps
from brine.daemon.ways import Ways
from brine.exchange import NO_PSK, Credential
from brine.layout import Layout
from brine.roster import Endpoint
from tests.unit.simulated_maps import SimulatedMaps

DELAY = SECOND // 1000  #: one way
EPOCH = 1_700_000_000 * SECOND  #: UNIX time at the clock's zero


class World:
    """The clock, and what is under way between hosts."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND
        self.hosts: list[Host] = []
        self._arrivals: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        #: decides on each message between two hosts: False loses it
        self.passes: Callable[[Host, Host, bytes | Data], bool] = lambda *_: True
        #: the same by where it leaves from and goes to
        self.carries: Callable[[Endpoint, Endpoint, bytes | Data], bool] = lambda *_: True
        #: when each copy of a message arrives, ns from now
        self.delays: Callable[[], list[int]] = lambda: [DELAY]

    def carry(self, arrive: Callable[[], None]) -> None:
        """Over the network."""
        for delay in self.delays():
            self.later(delay, arrive)

    def later(self, delay: int, call: Callable[[], None]) -> None:
        heapq.heappush(self._arrivals, (self.now + delay, next(self._sequence), call))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + int(seconds * SECOND)
        while True:
            due = [self._arrivals[0][0]] if self._arrivals else []
            for host in self.hosts:
                deadline = host.timers.next_deadline()
                if host.running and deadline is not None:
                    due.append(deadline)
            if not due or min(due) > end:
                self.now = end
                return
            self.now = max(self.now, min(due))
            while self._arrivals and self._arrivals[0][0] <= self.now:
                heapq.heappop(self._arrivals)[2]()
            for host in self.hosts:
                if host.running:
                    host.timers.run_due()


@dataclass(frozen=True)
class Data:
    """A sealed packet: who could open it, and under what."""

    index: int
    secret: bytes
    packet: bytes  #: empty: a keepalive
    nonce: int = 0


class Host:
    """A host of the mesh. Its daemon can be killed and started; its maps stay."""

    def __init__(
        self, world: World, layout: Layout, name: str, address: str, psk: bytes = NO_PSK
    ) -> None:
        self.world = world
        self.layout = layout
        self.name = name
        self.credential = Credential(keys.generate_private(), psk)
        self.endpoint = Endpoint(ipaddress.ip_address(address), 4747)
        self.others: tuple[Endpoint, ...] = ()  #: where it may be reached besides
        self.reached: dict[int, Endpoint | None] = {}  #: of `peers`: where each is reached
        self.maps = SimulatedMaps(world)
        self.clock_error = 0  #: ns by which the host's wall clock is ahead
        self.received: list[bytes] = []
        self.keepalives = 0  #: received
        self.messages: list[tuple[str, int]] = []  #: kind by length, and when, as sent
        self.peer_list: list[tuple[int, Host, bool]] = []  # number, peer, whether it roams
        self.confirmed_floors: dict[bytes, bytes] = {}
        self.reserved = 0
        self.running = False
        self.roams = False
        world.hosts.append(self)

    def knows(self, number: int, peer: Host, roaming: bool = False) -> None:
        self.peer_list.append((number, peer, roaming))

    # the daemon

    def start(self) -> int:
        """How many associations were adopted."""
        now = self._now
        self.timers = Timers(now)
        self.table = PeerTable()
        for number, peer, roaming in self.peer_list:
            listed = () if roaming else peer.endpoints
            reachable = [one for one in listed if self.source(one) is not None]
            endpoint = self.reached.setdefault(number, next(iter((*reachable, *listed)), None))
            key = peer.credential.public
            self.table.add(Peer(number, key, peer.name, endpoint, roaming, listed))
        indices = Indices(now)
        self.ways = Ways(self._send, self._inject, self._keepalive, self._moved, self.maps)
        self.floors = Floors(self.confirmed_floors, now)
        own = OwnTimestamps(self.reserved, self._reserve, wall=self._wall)
        log = Log(ERROR, {})
        self.hold = HoldQueue()
        self.exchanges = Exchanges(
            self.layout, self.credential, self.table, self.timers, indices, own, self.floors,
            self.hold, self.ways, log,
        )  # fmt: skip
        self.associations = Associations(
            self.maps, self.timers, indices, log,
            confirmed=self.exchanges.confirmed,
            renew=lambda peer: self.exchanges.initiate(peer, "age", at_ease=True),
        )  # fmt: skip
        self.exchanges.associations = self.associations
        self.liveness = Liveness(
            self.table, self.timers, self.associations, self.exchanges, self.ways
        )
        self.roaming = Roaming(
            self.table, self.timers, self.associations, self.exchanges, self.ways
        )
        self.liveness.roams = self.roaming.here = self.roams
        adopted = self.associations.adopt(self.table)
        self.running = True
        self._tick()
        return adopted

    def kill(self) -> None:
        """As SIGKILL would: nothing is tidied up. What was on disk stays."""
        self.confirmed_floors = dict(self.floors.confirmed)
        self.running = False

    def reboot(self) -> None:
        """The maps are gone too."""
        if self.running:
            self.kill()
        self.maps = SimulatedMaps(self.world)
        self.reached = {}

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return (self.endpoint, *self.others)

    def source(self, to: Endpoint) -> Endpoint | None:
        """What its packets for there leave from: of the same family."""
        version = to.address.version
        return next((one for one in self.endpoints if one.address.version == version), None)

    def _now(self) -> int:
        return self.world.now

    def _wall(self) -> int:
        return EPOCH + self.world.now + self.clock_error

    def _reserve(self, stamp: int) -> None:
        self.reserved = stamp

    def _tick(self) -> None:
        self.liveness.tick()
        self.roaming.tick()
        self.timers.after(TICK, self._tick)

    def _send(self, message: bytes, to: Endpoint) -> bool:
        kind = {1384: "initiation", 1232: "response", 64: "cookie"}[len(message)]
        source = self.source(to)
        if source is None:
            return False
        self.messages.append((kind, self.world.now))
        if not self.world.carries(source, to, message):
            return True
        for host in self.world.hosts:
            if to in host.endpoints and self.world.passes(self, host, message):
                self.world.carry(lambda host=host: host.message(message, source))  # type: ignore[misc]
        return True

    def message(self, message: bytes, source: Endpoint) -> None:
        """An exchange message arrives."""
        if self.running and self.maps.admits(self.layout, message):
            self.exchanges.received(message, source)

    def _moved(self, peer: Peer, endpoint: Endpoint) -> None:
        self.table.move(peer, endpoint)
        self.reached[peer.number] = endpoint

    def sent(self, kind: str) -> int:
        return sum(1 for found, _when in self.messages if found == kind)

    # the data path

    def peer(self, other: Host) -> Peer:
        return self.table.by_identity[other.credential.public]

    def number_of(self, other: Host) -> int:
        return next(number for number, peer, _roaming in self.peer_list if peer is other)

    def send(self, other: Host, packet: bytes) -> None:
        """An application's packet for `other`, through `seal`."""
        self._seal(self.number_of(other), packet)

    def _inject(self, packet: bytes) -> bool:
        self._seal(packet[0], packet)
        return True

    def _keepalive(self, number: int) -> bool:
        self._seal(number, b"")
        return True

    def _seal(self, number: int, packet: bytes) -> None:
        state = self.maps.peer_state(number)
        slot = self.maps.slots.get(-1 if state.sending is None else state.sending)
        if slot is None or self.world.now >= slot.association.send_not_after:
            if packet and self.running:
                self.exchanges.punted(self.table.by_number[number], packet)
            return
        self.maps.states[number] = replace(
            state,
            last_sent=self.world.now,
            last_data_sent=self.world.now if packet else state.last_data_sent,
        )
        other = next(peer for known, peer, _roaming in self.peer_list if known == number)
        data = Data(slot.association.remote_index, slot.secret, packet, slot.counter)
        slot.counter += 1
        to = self.reached[number]
        source = to and self.source(to)
        if to is None or source is None or not self.world.carries(source, to, data):
            return
        if to in other.endpoints and self.world.passes(self, other, data):
            self.world.carry(lambda: other.open(data, self))

    def open(self, data: Data, sender: Host) -> None:
        """A sealed packet arrives."""
        slots = self.maps.slots.values()
        slot = next((one for one in slots if one.association.local_index == data.index), None)
        if slot is None:
            if self.running:
                for peer in self.table.at(sender.endpoint.address):
                    self.exchanges.unknown_index(peer)
            return
        found = slot.association
        if self.world.now >= found.receive_not_after or slot.secret != data.secret:
            return
        if data.nonce in slot.opened:
            return
        slot.opened.add(data.nonce)
        if found.state != "confirmed":
            slot.association = replace(found, state="confirmed")
            if found.state == "pending":
                self.maps.set_sending(found.peer, found.number)
            if self.running:
                self.world.later(0, lambda: self._confirmed(found.peer, found.number))
        now = self.world.now
        state = self.maps.peer_state(found.peer)
        self.maps.states[found.peer] = replace(
            state,
            last_received=now,
            last_data_received=now if data.packet else state.last_data_received,
        )
        if data.packet:
            self.received.append(data.packet)
        else:
            self.keepalives += 1

    def _confirmed(self, peer: int, number: int) -> None:
        """The event, through the ring buffer."""
        known = self.table.by_number[peer]
        for living in list(known.living):
            if living.number == number and self.running:
                self.associations.look(known, living)


def pair(layout: Layout) -> tuple[World, Host, Host]:
    """Two hosts that know each other, their daemons running. The first has the bytewise
    smaller identity."""
    world = World()
    one = Host(world, layout, "one", "192.0.2.1")
    two = Host(world, layout, "two", "192.0.2.2")
    if one.credential.public > two.credential.public:
        one.credential, two.credential = two.credential, one.credential
    one.knows(1, two)
    two.knows(2, one)
    one.start()
    two.start()
    return world, one, two


def packet(number: int, payload: bytes) -> bytes:
    """A packet for the peer of that number, as `Host.send` and injection understand it."""
    return bytes((number,)) + payload
