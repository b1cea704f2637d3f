# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon assembled: what arrives where, what every tick does, what a reload changes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import brine
from brine import config as configuration
from brine import keys, sources
from brine.config import DEVICE, Config
from brine.daemon import settings, state
from brine.daemon.addresses import Addresses
from brine.daemon.associations import Associations
from brine.daemon.control_socket import ControlSocket
from brine.daemon.exchanges import Exchanges
from brine.daemon.handover import Handover
from brine.daemon.hold import HoldQueue
from brine.daemon.identities import Identities
from brine.daemon.indices import Indices
from brine.daemon.inject import Injector
from brine.daemon.journal import Log
from brine.daemon.liveness import TICK, Liveness
from brine.daemon.loop import Loop
from brine.daemon.membership import Membership
from brine.daemon.notify import Notifier
from brine.daemon.operators import Operators
from brine.daemon.peers import Living, Peer, PeerTable
from brine.daemon.ratchet import REKEY_INTERVAL, Ratchets
from brine.daemon.roaming import Roaming
from brine.daemon.settings import Members
from brine.daemon.sockets import Underlay
from brine.daemon.timers import SECOND, Timers
from brine.daemon.timestamps import Floors, OwnTimestamps
from brine.daemon.ways import Ways
from brine.errors import BrineError
from brine.exchange import Credential
from brine.former import Formers
from brine.libbpf import RingBuffer
from brine.locking import Busy
from brine.maps import Maps
from brine.records import ControlError, StaleMaps, boot_ns
from brine.roster import Endpoint

_SAVE_INTERVAL = SECOND  # between two writes of the floors
_STALE_INTERVAL = 5 * SECOND  # between two looks at whether the maps are still the host's


class Service:
    """Everything between opening the maps and closing them.

    :raises BrineError: if a socket or a device cannot be opened, or the state not be read.
    """

    def __init__(
        self,
        config: Config,
        maps: Maps,
        formers: Formers,
        credentials: tuple[Credential, ...],
        members: Members,
        log: Log,
        notifier: Notifier,
        rekey_interval: int = REKEY_INTERVAL,
    ) -> None:
        self.maps = maps
        self.again = False  #: after :meth:`run`: whether to begin anew from what the maps hold
        self._config = config
        self._log = log
        self._notifier = notifier
        self._timers = Timers(boot_ns)
        self.loop = Loop(self._timers)
        self._table = PeerTable()
        lock = config.paths.apply_lock
        self._membership = Membership(maps, lock, self._table, self._timers, log)
        self._state_file = state.StateFile(config.paths.daemon_state)
        self._last_save = 0
        self._event: type[ctypes.Structure] = maps.layout.event
        self._kinds = maps.layout.enum("event_kind")
        types = maps.layout.enum("message_type")
        self._data_types = (types["MESSAGE_DATA"], types["MESSAGE_DATA_KEYED"])
        self._lanes = maps.layout.enum("map_size")["LANES"]
        self._injector = Injector(DEVICE, maps.layout)
        self._underlay = Underlay(self.loop, self._datagram)
        self._addresses = Addresses(self.loop, self._addresses_changed)
        remembered = self._state_file.read()
        self._floors = Floors(remembered.floors, boot_ns)
        self._own_timestamps = OwnTimestamps(remembered.reserved, self._save)
        indices = Indices(boot_ns, formers.indices)
        ways = Ways(
            send=self._underlay.send,
            packet=self._injector.packet,
            keepalive=self._injector.keepalive,
            moved=self._membership.moved,
            gate=maps,
        )
        self._exchanges = Exchanges(
            maps.layout,
            credentials[0],
            self._table,
            self._timers,
            indices,
            self._own_timestamps,
            self._floors,
            HoldQueue(),
            ways,
            log,
        )
        self._associations = Associations(
            maps,
            self._timers,
            indices,
            log,
            confirmed=self._association_confirmed,
            renew=lambda peer: self._exchanges.initiate(peer, "age", at_ease=True),
        )
        self._exchanges.associations = self._associations
        self._liveness = Liveness(
            self._table, self._timers, self._associations, self._exchanges, ways
        )
        self._roaming = Roaming(
            self._table, self._timers, self._associations, self._exchanges, ways
        )
        self._ratchets = Ratchets(
            maps,
            self._table,
            self._timers,
            self._associations,
            self._exchanges,
            self._injector.keepalive,
            log,
            rekey_interval,
        )
        self._handover = Handover(
            formers, maps, lock, self._table, self._timers, self._exchanges, log
        )
        self._identities = Identities(
            credentials, members, self._table, self._timers, self._associations, self._exchanges
        )
        operators = Operators(
            self._table, self._identities, self._exchanges, self._ratchets, self._injector
        )
        self._control = ControlSocket(
            self.loop,
            config.paths.control_socket,
            {"status": operators.status, "rotate": operators.rotate, "reload": self._reload},
        )
        self._remembered = remembered
        self._ring: RingBuffer | None = None
        self._records: list[bytes] = []  # C code calls for each, and would lose an exception

    # Life

    def start(self) -> None:
        """Open sockets, adopt what the maps hold, begin to listen.

        :raises BrineError: as the class says.
        """
        try:
            self._injector.open()
        except OSError as error:
            raise BrineError(
                f"{DEVICE} cannot be written to: {error.strerror}", "run `brine dataplane apply`"
            ) from None
        try:
            self._addresses.open()
        except OSError as error:
            self._log.warning("addresses not watched", cause=error.strerror)
        self._bind()
        self._read_peers()
        former = self._remembered.credentials
        if former and not former & self._identities.fingerprints():
            # Another identity or mesh secret: what they made ends with them.
            for found in self.maps.associations():
                self.maps.erase(found.number)
        if former - self._identities.fingerprints():
            self._handover.end("identity or mesh secret changed")
        adopted = self._associations.adopt(self._table, self._remembered.made_with)
        self._identities.adopt(former)
        self._identities.settle()
        try:
            self._save(self._own_timestamps.last)
        except OSError as error:
            raise BrineError(
                f"{self._state_file.path} cannot be written: {error.strerror}",
                "make room, or the directory writable",
            ) from None
        self._ring = self.maps.events(self._records.append)
        self.loop.watch(self._ring, self._events)
        self._control.open()
        self._tick()
        if self._notifier.watchdog_interval is not None:
            self._sign_of_life()
        self._timers.after(_STALE_INTERVAL, self._look_at_maps)
        self._log.info(
            "started",
            version=brine.__version__,
            key_id=keys.key_id(self._identities.own),
            peers=len(self._table),
            adopted=adopted,
        )

    def run(self) -> None:
        """Until :meth:`stop`, or until somebody else has changed what the maps hold."""
        try:
            self.loop.run()
        except StaleMaps:
            self._begin_anew("the data path has new maps")
        except ControlError as error:
            self._begin_anew(error.result)

    def stop(self) -> None:
        self.loop.stop()

    @property
    def settings(self) -> tuple[Config, tuple[Credential, ...], Members]:
        """What it runs with by now."""
        return self._config, self._identities.credentials, self._identities.members

    def reload(self) -> None:
        """As the control socket's `reload`; what is wrong is logged."""
        try:
            self._reload({})
        except BrineError as error:
            self._log.error("not reloaded", cause=error.cause, next_step=error.next_step)

    def close(self) -> None:
        """Leave the data path running as it is."""
        if self._ring is not None:  # else the start failed: the next must find what was noted
            self._try_save()
            self.loop.forget(self._ring)
            self._ring.close()
        self._control.close()
        self._addresses.close()
        self._underlay.close()
        self._injector.close()
        self.loop.close()

    def _begin_anew(self, reason: str) -> None:
        self._log.info("begins anew", reason=reason)
        self.again = True
        self.loop.stop()

    # What arrives

    def _datagram(self, data: bytes, source: Endpoint) -> None:
        if data and data[0] in self._data_types:
            self._stray(data, source)
        else:
            self._exchanges.received(data, source)

    def _stray(self, data: bytes, source: Endpoint) -> None:
        """Data that `open` did not know the index of, or that came in fragments."""
        shape: Any = self.maps.layout.message_data
        if len(data) < ctypes.sizeof(shape):
            return
        header = shape.from_buffer_copy(data)
        if header.lane >= self._lanes or self._associations.knows(header.receiver):
            return
        for peer in self._table.at(source.address):
            self._exchanges.unknown_index(peer)

    def _events(self) -> None:
        assert self._ring is not None
        self._ring.consume()
        records = self._records.copy()
        self._records.clear()
        for record in records:
            self._record(record)

    def _record(self, record: bytes) -> None:
        event: Any = self._event.from_buffer_copy(record)
        peer = self._table.by_number.get(event.peer)
        if peer is None:
            return
        if event.kind == self._kinds["EVENT_PUNT_SEND"]:
            at = ctypes.sizeof(self._event)
            self._exchanges.punted(peer, record[at : at + event.length])
        elif event.kind == self._kinds["EVENT_CONFIRMED"]:
            self._confirmed(peer, event.association)
        elif event.kind == self._kinds["EVENT_RATCHET"]:
            self._ratchets.moved(peer, event.association)
        elif event.kind == self._kinds["EVENT_MOVED"] and peer.roaming:
            source = self.maps.moved_event(record)
            if source is not None and source != peer.endpoint:
                self._membership.moved(peer, source)
        elif event.kind == self._kinds["EVENT_DERIVE"]:
            self._ratchets.asked(peer, self.maps.derive_event(record))

    def _confirmed(self, peer: Peer, number: int) -> None:
        for living in list(peer.living):
            if living.number == number:
                self._associations.look(peer, living)

    def _association_confirmed(self, peer: Peer, living: Living) -> None:
        self._exchanges.confirmed(peer, living)
        self._identities.look_later(peer)

    # Time

    def _tick(self) -> None:
        self._timers.after(TICK, self._tick)
        self._liveness.tick()
        self._roaming.tick()
        self._ratchets.tick()
        self._handover.tick()
        dirty = self._floors.dirty or self._associations.dirty
        if dirty and boot_ns() - self._last_save >= _SAVE_INTERVAL:
            self._try_save()

    def _sign_of_life(self) -> None:
        assert self._notifier.watchdog_interval is not None
        self._notifier.alive()
        self._timers.after(self._notifier.watchdog_interval, self._sign_of_life)

    def _look_at_maps(self) -> None:
        self._timers.after(_STALE_INTERVAL, self._look_at_maps)
        if self.maps.stale():
            raise StaleMaps

    def _save(self, reserved: int) -> None:
        """Write the state down. :raises OSError: if that fails."""
        self._floors.dirty = self._associations.dirty = False
        try:
            self._state_file.write(
                state.State(
                    reserved,
                    self._floors.confirmed,
                    self._identities.fingerprints(),
                    self._identities.made_with(),
                )
            )
        except OSError:
            self._floors.dirty = True
            raise
        finally:
            self._last_save = boot_ns()

    def _try_save(self) -> None:
        try:
            self._save(self._own_timestamps.last)
        except OSError as error:
            self._log.error("state not saved", cause=error.strerror)

    # What the configuration says

    def _bind(self) -> None:
        """Have the sockets where the data path sends from and listens."""
        self._liveness.roams = self._roaming.here = self._config.roaming
        binding = settings.binding(self._config, self.maps)
        self._underlay.bind(binding)
        if binding.source4 is None and binding.source6 is None:  # until the peers are applied
            self._log.warning("no underlay address", interface=binding.interface)

    def _addresses_changed(self) -> bool:
        """False: to be asked again."""
        try:
            found = sources.follow(self._config, self.maps, self._identities.own_endpoints)
        except Busy:
            return False
        except BrineError as error:
            self._log.error("source not followed", cause=error.cause, next_step=error.next_step)
            return True
        if found.moved:
            self._log.info("source moved", source4=found.sources.ipv4, source6=found.sources.ipv6)
            self._handover.end("source moved")
            self._bind()
            self._roaming.moved()
        self._membership.look_again(found, self._exchanges)
        return True

    def _read_peers(self) -> None:
        """Follow the maps: who is new, who is gone, who is elsewhere."""
        self._membership.follow(self._identities, self._exchanges, self._associations)
        self._floors.keep_only(set(self._table.by_identity))
        settings.compare(self._config, self._identities.members, self._identities.own, self._log)
        self._notifier.status(f"{len(self._table)} peers")

    def _reload(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read everything again. What fails leaves all as it was."""
        paths = self._config.paths
        config = configuration.load(paths)
        fresh, members = settings.credentials(paths), settings.members(paths)
        if config.bpffs != self._config.bpffs or self.maps.stale():
            self._begin_anew("the data path has new maps")
            return {"peers": len(self._table)}
        self._config = config
        if set(self._identities.credentials) - set(fresh):
            self._handover.end("identity or mesh secret changed")
        self._handover.follow(self._identities.members, members)
        changed = self._identities.change(fresh, members)
        self._read_peers()
        self._identities.settle()
        if changed:
            self._save(self._own_timestamps.last)
        self._bind()
        self._log.info("reloaded", peers=len(self._table))
        return {"peers": len(self._table)}
