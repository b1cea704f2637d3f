# SPDX-License-Identifier: GPL-3.0-or-later
"""The pinned maps that user space writes: config, peers, routes, endpoints, and what lets
messages of the exchange in.

The lower half of maps.py, which adds what only the `control` program and the data path
write. Callers use maps.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

from brine.config import Config
from brine.errors import BrineError
from brine.layout import Layout
from brine.libbpf import Map
from brine.locking import locked
from brine.records import PeerEntry, RouteValues, StaleMaps, pack_address, unpack_address
from brine.roster import Address, Endpoint, Network

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


class TableMaps:
    """Maps pinned in one directory, open until :meth:`close`."""

    def __init__(self, directory: Path, lock: Path) -> None:
        self.directory = directory
        self._lock = lock
        self._maps: dict[str, Map] = {}
        self._open = False
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
        self._open = True

    @classmethod
    def open(cls, directory: Path | str, lock: Path = _CONTROL_LOCK) -> Self:
        """The maps pinned in `directory`, such as /sys/fs/bpf/brine/v2. Calls of the control
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

    def derives_on_reception(self) -> bool:
        """Whether `open` makes pairs, rather than leaving them to the daemon."""
        punts = self.layout.enum("config_flag")["CONFIG_PUNT_DERIVATION"]
        return not self.config().flags & punts

    def write_config(self, settings: ctypes.Structure) -> None:
        self._settings.update(pack_number(0), bytes(settings))

    # peers

    def peers(self) -> dict[int, PeerEntry]:
        """The slots in use, by number."""
        slots = ((number, self.peer(number)) for number in range(self.max_peers))
        return {number: peer for number, peer in slots if peer is not None}

    def identities(self) -> dict[int, bytes]:
        """Those in the slots in use, by number, and nothing else: also of maps whose layout is
        another one's."""
        found = {}
        for number in range(self.max_peers):
            peer: Any = self.layout.peer.from_buffer_copy(self._read("peers", number))
            if any(identity := bytes(peer.identity)):
                found[number] = identity
        return found

    def peer(self, number: int) -> PeerEntry | None:
        """The slot of that number, if it is in use."""
        peer: Any = self.layout.peer.from_buffer_copy(self._read("peers", number))
        identity = bytes(peer.identity)
        if not any(identity):
            return None
        return PeerEntry(
            number=number,
            identity=identity,
            endpoint=unpack_endpoint(peer.endpoint),
            roaming=bool(peer.flags & self.layout.enum("peer_flag")["PEER_ROAMING"]),
        )

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
        self._map("peers").update(pack_number(number), bytes(peer))

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
        self._map("routes").update(self._route_key(network), pack_number(value))

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
        self._map("endpoints").update(bytes(self._endpoint(address, 0)), pack_number(number))

    def delete_endpoint(self, address: Address) -> None:
        self._map("endpoints").delete(bytes(self._endpoint(address, 0)))

    # which messages of the exchange reach the daemon (bpf/admission.h)

    def accept_mac1(self, mac1_keys: Sequence[bytes]) -> None:
        """The keys, 32 bytes each, one of which mac1 of an INITIATION or RESPONSE must have
        been made with: those given and no others.

        :raises BrineError: if there is no room for all.
        """
        item = self._map("mac1_keys")
        if len(mac1_keys) > item.max_entries:
            raise BrineError(
                f"the host answers to {len(mac1_keys)} identities and mesh secrets,"
                f" but no more than {item.max_entries} are possible",
                "end a rotation before the next",
            )
        for slot in range(item.max_entries):
            value: Any = self.layout.mac1_key()
            if slot < len(mac1_keys):
                value.key[:] = mac1_keys[slot]
                value.used = 1
            item.update(pack_number(slot), bytes(value))

    def publish_cookie_secret(self, secret: bytes, not_after: int) -> None:
        """R, 32 bytes, which mac2 is checked by until `not_after` (boot clock, ns)."""
        value: Any = self.layout.cookie_secret()
        value.secret[:] = secret
        value.not_after = not_after
        self._map("cookie_secrets").update(pack_number(0), bytes(value))

    def await_answer(self, index: int) -> None:
        """Let a RESPONSE or COOKIE to the INITIATION of that index in."""
        item = self._map("awaited")
        item.update(pack_number(index), bytes(item.element_size))

    def forget_answer(self, index: int) -> None:
        """No longer. One that was not awaited is no error."""
        self._map("awaited").delete(pack_number(index))

    def forget_answers(self) -> None:
        """Let none in."""
        for index in list(self._map("awaited").keys()):
            self._map("awaited").delete(index)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other caller of the control program out."""
        return locked(self._lock)

    # inside

    def _map(self, name: str) -> Map:
        if name not in self._maps:
            try:
                found = Map.pinned(str(self.directory / name))
            except FileNotFoundError:
                if self._open and self.stale():
                    raise StaleMaps from None
                raise
            if self._open and self.stale():  # then it is perhaps one of the others
                found.close()
                raise StaleMaps
            self._maps[name] = found
        return self._maps[name]

    def _read(self, name: str, number: int) -> bytes:
        value = self._map(name).lookup(pack_number(number))
        if value is None:
            raise IndexError(f"{name} has no element {number}")
        return value

    def _zero(self, name: str, numbers: Collection[int]) -> None:
        item = self._map(name)
        for number in numbers:
            item.update(pack_number(number), bytes(item.element_size))

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


def unpack_endpoint(made: Any) -> Endpoint | None:
    """What a struct endpoint says; None without a port."""
    port = int.from_bytes(made.port.to_bytes(2, "little"), "big")
    return Endpoint(unpack_address(bytes(made.address.bytes)), port) if port else None


def pack_number(value: int) -> bytes:
    """The key of an array's element."""
    return value.to_bytes(4, "little")
