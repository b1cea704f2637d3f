# SPDX-License-Identifier: GPL-3.0-or-later
"""The pinned maps: the only place that reads and writes them.

bpf/maps.h says who may write what. Associations and boxes change only through the
`control` program, one caller at a time. Nothing here returns a secret.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

from brine.config import Config
from brine.errors import BrineError
from brine.layout import Layout
from brine.libbpf import Map, Program, RingBuffer
from brine.locking import locked
from brine.records import (
    Association,
    ControlError,
    Established,
    PeerEntry,
    PeerState,
    RouteValues,
    StaleMaps,
    Traffic,
    boot_ns,
    pack_address,
    unpack_address,
)
from brine.roster import Address, Endpoint, Network

__all__ = [
    "Association",
    "ControlError",
    "Established",
    "Maps",
    "PeerEntry",
    "PeerState",
    "RouteValues",
    "StaleMaps",
    "Traffic",
    "boot_ns",
    "pin_directory",
]

_VERSION = re.compile("v[0-9]+")
_CONTROL_LOCK = Path("/run/brine/control.lock")


def pin_directory(bpffs: Path) -> Path:
    """Where the maps in use are pinned: the newest layout below `bpffs`.

    :raises BrineError: if there is none.
    """
    with contextlib.suppress(OSError):
        names = (path.name for path in bpffs.iterdir())
        if versions := [int(name[1:]) for name in names if _VERSION.fullmatch(name)]:
            return bpffs / f"v{max(versions)}"
    if os.geteuid() != 0:
        raise BrineError(f"the pins in {bpffs} cannot be read", "run as root")
    raise BrineError("the data path is not loaded", "run `brine dataplane apply`")


class Maps:
    """The maps pinned in one directory, open until :meth:`close`."""

    def __init__(self, directory: Path, lock: Path) -> None:
        self.directory = directory
        self._lock = lock
        self._maps: dict[str, Map] = {}
        try:
            self._settings = self._map("config")
            self.layout = Layout(self._settings.btf())
            self._states = self._map("peer_states").map_memory()
        except OSError as error:
            for item in self._maps.values():
                item.close()
            if error.errno in (errno.EPERM, errno.EACCES):
                raise BrineError(f"the maps in {directory} cannot be read", "run as root") from None
            raise BrineError("the data path is not loaded", "run `brine dataplane apply`") from None
        self._state_size = (self._map("peer_states").value_size + 7) // 8 * 8
        self._state_names = {
            value: name.removeprefix("ASSOCIATION_").lower()
            for name, value in self.layout.enum("association_state").items()
        }

    @classmethod
    def open(cls, directory: Path | str, lock: Path = _CONTROL_LOCK) -> Self:
        """The maps pinned in `directory`, such as /sys/fs/bpf/brine/v1. Calls of the control
        program are serialised by `lock`, which is made if it is missing.

        :raises BrineError: if they are not there, or not for this user.
        """
        return cls(Path(directory), lock)

    @classmethod
    def of(cls, config: Config) -> Self:
        """The maps that the host's configuration leads to."""
        return cls(pin_directory(config.bpffs), config.paths.control_lock)

    def close(self) -> None:
        self._states.close()
        for item in self._maps.values():
            item.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stale(self) -> bool:
        """Whether other maps have taken the place of these (dataplane.py, `migrate`)."""
        try:
            there = Map.pinned(str(self.directory / "config"))
        except OSError:
            return True
        with contextlib.closing(there):
            return there.id != self._settings.id

    @property
    def max_peers(self) -> int:
        return self._map("peers").max_entries

    @property
    def max_associations(self) -> int:
        return self._map("associations").max_entries

    # config

    def config(self) -> Any:
        """struct config, a copy."""
        return self.layout.config.from_buffer_copy(self._read("config", 0))

    def write_config(self, settings: ctypes.Structure) -> None:
        self._settings.update(_number(0), bytes(settings))

    # peers

    def peers(self) -> dict[int, PeerEntry]:
        """The slots in use, by number."""
        found = {}
        for number in range(self.max_peers):
            peer: Any = self.layout.peer.from_buffer_copy(self._read("peers", number))
            identity = bytes(peer.identity)
            if any(identity):
                port = int.from_bytes(peer.endpoint.port.to_bytes(2, "little"), "big")
                address = unpack_address(bytes(peer.endpoint.address.bytes))
                found[number] = PeerEntry(
                    number=number,
                    identity=identity,
                    endpoint=Endpoint(address, port) if port else None,
                    roaming=bool(peer.flags & self.layout.enum("peer_flag")["PEER_ROAMING"]),
                )
        return found

    def write_peer(
        self, number: int, identity: bytes, endpoint: Endpoint | None, roaming: bool
    ) -> None:
        """Fill a slot. The data path may meanwhile see half of it: give a used slot
        another identity only after :meth:`clear_peers`."""
        peer: Any = self.layout.peer()
        peer.identity[:] = identity
        if endpoint is not None:
            peer.endpoint = self._endpoint(endpoint.address, endpoint.port)
        peer.flags = self.layout.enum("peer_flag")["PEER_ROAMING"] if roaming else 0
        self._map("peers").update(_number(number), bytes(peer))

    def clear_peers(self, numbers: Collection[int]) -> None:
        """Empty these slots, erase the peers' associations and what was counted of them."""
        # Identities first: from here on no exchange can install for these slots.
        self._zero("peers", numbers)
        for association in self.associations():
            if association.peer in numbers:
                self.erase(association.number)
        for name in ("peer_states", "limits", "traffic"):
            self._zero(name, numbers)

    # routes and endpoints

    def routes(self) -> dict[Network, int]:
        """Prefix → peer's number, or what `route_values` says."""
        routes = self._map("routes")
        found: dict[Network, int] = {}
        for raw in list(routes.keys()):
            key: Any = self.layout.route_key.from_buffer_copy(raw)
            value = routes.lookup(raw)
            if value is not None:
                address = unpack_address(bytes(key.address.bytes))
                length = key.prefix_length - (96 if address.version == 4 else 0)
                found[ipaddress.ip_network((address, length))] = int.from_bytes(value, "little")
        return found

    def set_route(self, network: Network, value: int) -> None:
        self._map("routes").update(self._route_key(network), _number(value))

    def delete_route(self, network: Network) -> None:
        self._map("routes").delete(self._route_key(network))

    @property
    def route_values(self) -> RouteValues:
        values = self.layout.enum("route_value")
        return RouteValues(
            own=values["ROUTE_SELF"],
            nobody=values["ROUTE_NONE"],
            outside=values["ROUTE_OUTSIDE"],
        )

    def endpoints(self) -> dict[Address, int]:
        """Address of the underlay → the peer whose packets of unknown index may be punted."""
        endpoints = self._map("endpoints")
        found = {}
        for raw in list(endpoints.keys()):
            key: Any = self.layout.endpoint.from_buffer_copy(raw)
            value = endpoints.lookup(raw)
            if value is not None:
                address = unpack_address(bytes(key.address.bytes))
                found[address] = int.from_bytes(value, "little")
        return found

    def set_endpoint(self, address: Address, number: int) -> None:
        # Port 0: data leaves from a port per flow, so only the address is listed.
        self._map("endpoints").update(bytes(self._endpoint(address, 0)), _number(number))

    def delete_endpoint(self, address: Address) -> None:
        self._map("endpoints").delete(bytes(self._endpoint(address, 0)))

    # associations

    def associations(self) -> list[Association]:
        """The living ones."""
        return [
            association
            for number in range(self._map("associations").max_entries)
            if (association := self.association(number)) is not None
        ]

    def association(self, number: int) -> Association | None:
        """One of them, or None if the slot is free."""
        raw: Any = self._association(number)
        if raw.state == self.layout.enum("association_state")["ASSOCIATION_FREE"]:
            return None
        return Association(
            number=number,
            peer=raw.peer,
            state=self._state_names[raw.state],
            local_index=raw.local_index,
            remote_index=raw.remote_index,
            created=raw.created,
            send_not_after=raw.send_not_after,
            receive_not_after=raw.receive_not_after,
            initiated=bool(raw.initiated),
            own_generation=raw.own_generation,
            peer_generation=raw.peer_generation,
        )

    def free_association(self, peer: int) -> int:
        """A slot that may be installed into: free, and rested since it was erased.

        :raises BrineError: if there is none; associations must be erased first.
        """
        slots = self._map("associations").max_entries
        free = self.layout.enum("association_state")["ASSOCIATION_FREE"]
        rest = self.layout.enum("control_time")["CONTROL_REST_SECONDS"] * 1_000_000_000
        now = boot_ns()
        for step in range(slots):  # from a place of the peer's own: mostly the first look
            number = (2 * peer + step) % slots
            raw: Any = self._association(number)
            if raw.state == free and (not raw.created or now - raw.created >= rest):
                return number
        raise BrineError(
            f"all {slots} associations are in use or at rest",
            "wait ten seconds; if it stays so, raise brine_max_peers",
        )

    def install(
        self,
        number: int,
        peer: int,
        established: Established,
        send_not_after: int,
        receive_not_after: int,
    ) -> None:
        """Fill the free association `number` with what an exchange established, and its
        generation-0 boxes. Times: boot clock, ns.

        :raises ControlError: if the program refuses.
        """
        request: Any = self.layout.control_request()
        request.operation = self.layout.enum("control_operation")["CONTROL_INSTALL"]
        request.association = number
        request.peer = peer
        request.initiated = established.initiated
        request.local_index = established.local_index
        request.remote_index = established.remote_index
        request.send_not_after = send_not_after
        request.receive_not_after = receive_not_after
        for into, value in (
            (request.identity, established.peer_identity),
            (request.secret, established.secret),
            (request.send_header_key, established.send_header_key),
            (request.receive_header_key, established.receive_header_key),
            (request.own_private, established.own_private),
            (request.own_public, established.own_public),
            (request.peer_public, established.peer_public),
            (request.send.key, established.send.key),
            (request.send.nonce, established.send.nonce),
            (request.receive.key, established.receive.key),
            (request.receive.nonce, established.receive.nonce),
        ):
            into[:] = value
        self._run(request)

    def publish(self, number: int) -> None:
        """Make it the association that its peer's packets are sealed under.

        :raises ControlError: if it is free or pending.
        """
        self._simple("CONTROL_PUBLISH", number)

    def erase(self, number: int) -> None:
        """Stop using it and overwrite its secrets. Erasing a free one is no error.

        :raises ControlError: if there is no such slot.
        """
        self._simple("CONTROL_ERASE", number)

    # what the data path counts

    def peer_state(self, number: int) -> PeerState:
        """Read from mapped memory: no system call."""
        if not 0 <= number < self.max_peers:
            raise IndexError(f"there is no peer {number}")
        at = number * self._state_size
        raw: Any = self.layout.peer_state.from_buffer_copy(self._states[at : at + self._state_size])
        return PeerState(
            sending=raw.sending - 1 if raw.sending else None,
            last_sent=raw.last_sent,
            last_received=raw.last_received,
            last_data_sent=raw.last_data_sent,
            last_data_received=raw.last_data_received,
        )

    def traffic(self, number: int) -> Traffic:
        return Traffic(*self._sum("traffic", number))

    def stats(self) -> dict[str, tuple[int, int]]:
        """Reason → (packets, bytes), names as in enum stat, lower-case without STAT_."""
        found = {}
        for name, number in self.layout.enum("stat").items():
            if name.startswith("STAT_"):
                packets, octets = self._sum("stats", number)
                found[name.removeprefix("STAT_").lower()] = (packets, octets)
        return found

    def events(self, handle: Callable[[bytes], None]) -> RingBuffer:
        """Consume the ring buffer; `handle` gets each struct event with its data."""
        return RingBuffer(self._map("events"), handle)

    # inside

    def _map(self, name: str) -> Map:
        if name not in self._maps:
            self._maps[name] = Map.pinned(str(self.directory / name))
        return self._maps[name]

    def _read(self, name: str, number: int) -> bytes:
        value = self._map(name).lookup(_number(number))
        if value is None:
            raise IndexError(f"{name} has no element {number}")
        return value

    def _zero(self, name: str, numbers: Collection[int]) -> None:
        item = self._map(name)
        for number in numbers:
            item.update(_number(number), bytes(item.element_size))

    def _association(self, number: int) -> ctypes.Structure:
        """struct association, its secrets overwritten."""
        kind: Any = self.layout.association
        made: ctypes.Structure = kind()
        if not self._map("associations").lookup_into(_number(number), made):
            raise IndexError(f"there is no association {number}")
        at = kind.secret.offset  # the secrets are its last members
        ctypes.memset(ctypes.addressof(made) + at, 0, ctypes.sizeof(made) - at)
        return made

    def _sum(self, name: str, number: int) -> list[int]:
        """The u64 fields of a per-CPU value, each summed."""
        raw = self._read(name, number)
        words = memoryview(raw).cast("Q")
        width = self._map(name).value_size // 8
        return [sum(words[field::width]) for field in range(width)]

    def _endpoint(self, address: Address, port: int) -> ctypes.Structure:
        endpoint: Any = self.layout.endpoint()
        endpoint.address.bytes[:] = pack_address(address)
        endpoint.port = int.from_bytes(port.to_bytes(2, "big"), "little")
        made: ctypes.Structure = endpoint
        return made

    def _route_key(self, network: Network) -> bytes:
        key: Any = self.layout.route_key()
        key.prefix_length = network.prefixlen + (96 if network.version == 4 else 0)
        key.address.bytes[:] = pack_address(network.network_address)
        return bytes(key)

    def _simple(self, operation: str, number: int) -> None:
        request: Any = self.layout.control_request()
        request.operation = self.layout.enum("control_operation")[operation]
        request.association = number
        self._run(request)

    def _run(self, request: ctypes.Structure) -> None:
        """Call the control program on `request`, which is overwritten afterwards."""
        try:
            with self.locked():
                if self.stale():
                    raise StaleMaps
                # Opened each time: an upgrade may have put another one there.
                program = Program.pinned(str(self.directory / "control"))
                with contextlib.closing(program):
                    value = program.call(request)
        finally:
            ctypes.memset(ctypes.addressof(request), 0, ctypes.sizeof(request))
        results = self.layout.enum("control_result")
        if value != results["CONTROL_DONE"]:
            names = {number: name for name, number in results.items()}
            raise ControlError(names.get(value, str(value)))

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other caller of the control program out."""
        return locked(self._lock)


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")
