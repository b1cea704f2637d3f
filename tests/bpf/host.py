# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's data path as the tests drive it: one load of the object, its maps filled
by hand, packets given to its programs through BPF_PROG_TEST_RUN."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from brine.libbpf import RingBuffer, Run
from tests.bpf.loaded import ASSOCIATIONS, PEERS, Loaded

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
TC_SHOT, TC_REDIRECT = 2, 7
UNDERLAY, INSIDE = 1, 1  # ifindex; test runs do not follow the redirect
PORT = 4747
MAC = bytes.fromhex("02b41e000001")
FLOW_SECRET = 0x0123456789ABCDEF

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def address(text: str) -> bytes:
    """struct address."""
    packed = ipaddress.ip_address(text).packed
    return bytes(10) + b"\xff\xff" + packed if len(packed) == 4 else packed


@dataclass
class Box:
    """K and N, as an exchange gives them."""

    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    nonce: bytes = field(default_factory=lambda: os.urandom(16), repr=False)


@dataclass
class Keys:
    """The rest of what an exchange gives."""

    send: Box = field(default_factory=Box)
    receive: Box = field(default_factory=Box)
    secret: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    send_header_key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    receive_header_key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    own_private: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    own_public: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    peer_public: bytes = field(default_factory=lambda: os.urandom(32), repr=False)

    def all(self) -> list[bytes]:
        """Every secret byte string of it."""
        return [
            self.secret,
            self.send_header_key,
            self.receive_header_key,
            self.own_private,
            self.send.key,
            self.send.nonce,
            self.receive.key,
            self.receive.nonce,
        ]


@contextlib.contextmanager
def on_cpu(number: int) -> Iterator[None]:
    """Run on that CPU: it decides the lane and which per-CPU values are written."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Host:
    """The maps of one load, emptied."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.peers: dict[int, bytes] = {}
        self._events: list[bytes] = []
        self._ring = RingBuffer(loaded.map("events"), self._events.append)
        self._clear()

    def close(self) -> None:
        self._ring.close()

    def _clear(self) -> None:
        for name in ("routes", "endpoints", "indices", "retired", "sources", "awaited"):
            item = self.loaded.map(name)
            for key in list(item.keys()):
                item.delete(key)
        for name in (
            "config",
            "peers",
            "peer_states",
            "limits",
            "budgets",
            "mac1_keys",
            "cookie_secrets",
            "associations",
            "boxes",
        ):
            self.zero(name)
        for name in ("counters", "windows", "seal_areas", "open_areas", "stats", "traffic"):
            self.zero(name)
        self.events()

    def zero(self, name: str) -> None:
        """Write zeros to all elements of an array."""
        item = self.loaded.map(name)
        for number in range(item.max_entries):
            item.update(struct.pack("<I", number), bytes(item.element_size))

    # what user space writes

    def configure(
        self,
        source4: str | None = "192.0.2.1",
        source6: str | None = "2001:db8::1",
        *,
        copy_dscp: bool = False,
        underlay: int = UNDERLAY,
        inside: int = INSIDE,
    ) -> None:
        config = self.loaded.struct("config")()
        config.underlay_ifindex = underlay
        config.inside_ifindex = inside
        config.source4.bytes[:] = address(source4) if source4 else bytes(16)
        config.source6.bytes[:] = address(source6) if source6 else bytes(16)
        config.port = int.from_bytes(struct.pack("!H", PORT), "little")
        config.brine0_mac[:] = MAC
        config.flow_secret = FLOW_SECRET
        config.flags = self.loaded.enum("config_flag")["CONFIG_COPY_DSCP"] if copy_dscp else 0
        self.loaded.map("config").update(struct.pack("<I", 0), bytes(config))

    def peer(self, number: int, endpoint: tuple[str, int] | None = None) -> bytes:
        """Fill a slot of `peers`; returns the identity."""
        identity = bytes([number + 1]) * 32
        value = identity
        if endpoint:
            value += address(endpoint[0]) + struct.pack("!H", endpoint[1]) + bytes(6)
        else:
            value += bytes(24)
        self.loaded.map("peers").update(struct.pack("<I", number), value + bytes(8))
        self.peers[number] = identity
        return identity

    def route(self, network: str, value: int) -> None:
        parsed: Network = ipaddress.ip_network(network)
        length = parsed.prefixlen + (96 if parsed.version == 4 else 0)
        key = struct.pack("<I", length) + address(str(parsed.network_address))
        self.loaded.map("routes").update(key, struct.pack("<I", value))

    def list_endpoint(self, text: str, peer: int) -> None:
        self.loaded.map("endpoints").update(address(text) + bytes(8), struct.pack("<I", peer))

    # the control program

    def request(self, operation: str, association: int) -> Any:
        request = self.loaded.struct("control_request")()
        request.operation = self.loaded.enum("control_operation")[operation]
        request.association = association
        return request

    def install_request(
        self,
        association: int,
        peer: int,
        keys: Keys,
        *,
        index: int,
        remote: int,
        initiated: bool = True,
        send_seconds: float = 300,
        receive_seconds: float = 360,
    ) -> Any:
        """struct control_request of CONTROL_INSTALL. Lifetimes count from now."""
        request = self.request("CONTROL_INSTALL", association)
        now = boot_ns()
        request.peer = peer
        request.initiated = initiated
        request.local_index = index
        request.remote_index = remote
        request.send_not_after = now + int(send_seconds * 1e9)
        request.receive_not_after = now + int(receive_seconds * 1e9)
        request.identity[:] = self.peers.get(peer, bytes(32))
        for name in (
            "secret",
            "send_header_key",
            "receive_header_key",
            "own_private",
            "own_public",
            "peer_public",
        ):
            getattr(request, name)[:] = getattr(keys, name)
        for name in ("send", "receive"):
            getattr(request, name).key[:] = getattr(keys, name).key
            getattr(request, name).nonce[:] = getattr(keys, name).nonce
        return request

    def control(self, request: ctypes.Structure) -> str:
        """Run `control`; the name of its result, without CONTROL_."""
        value = self.loaded.program("control").call(request)
        names = {number: name for name, number in self.loaded.enum("control_result").items()}
        return names[value].removeprefix("CONTROL_")

    def install(self, association: int, peer: int, keys: Keys, **how: Any) -> None:
        """INSTALL, which must succeed."""
        result = self.control(self.install_request(association, peer, keys, **how))
        assert result == "DONE", result

    def publish(self, association: int) -> str:
        return self.control(self.request("CONTROL_PUBLISH", association))

    def erase(self, association: int) -> str:
        return self.control(self.request("CONTROL_ERASE", association))

    # what tests look at

    def value(self, name: str, number: int) -> bytes:
        found = self.loaded.map(name).lookup(struct.pack("<I", number))
        assert found is not None
        return found

    def read(self, name: str, struct_name: str, number: int) -> Any:
        """An array's element as its struct."""
        return self.loaded.struct(struct_name).from_buffer_copy(self.value(name, number))

    def write(self, name: str, number: int, value: ctypes.Structure) -> None:
        self.loaded.map(name).update(struct.pack("<I", number), bytes(value))

    def stats(self) -> dict[str, int]:
        """Packets by reason, summed over CPUs, zeros left out; the counters restart."""
        found = {}
        for name, number in self.loaded.enum("stat").items():
            if name.startswith("STAT_"):
                words = memoryview(self.value("stats", number)).cast("Q")
                packets = sum(words[::2])
                if packets:
                    found[name.removeprefix("STAT_").lower()] = packets
        self.zero("stats")
        return found

    def events(self) -> list[Any]:
        """Records of the ring buffer since the last call, as (kind, peer, association, data)."""
        self._ring.consume()
        found = []
        kinds = {number: name for name, number in self.loaded.enum("event_kind").items()}
        for raw in self._events:
            kind, peer, association, length = struct.unpack_from("<4I", raw)
            assert length <= len(raw) - 16
            found.append((kinds[kind], peer, association, raw[16 : 16 + length]))
        self._events.clear()
        return found

    def state(self, association: int) -> str:
        """Its enum association_state, lower-case."""
        names = {number: name for name, number in self.loaded.enum("association_state").items()}
        number = self.read("associations", "association", association).state
        return names[number].removeprefix("ASSOCIATION_").lower()

    def set_counter(self, association: int, value: int, lane: int) -> None:
        counters = self.read("counters", "counters", association * 4)
        counters.lane[lane].next = value
        self.write("counters", association * 4, counters)

    # the data path

    def seal(self, frame: bytes, context: bytes | None = None) -> Run:
        """What brine0 sends, given to `seal`."""
        return self.loaded.program("seal").run(frame, context)

    def open(self, frame: bytes) -> Run:
        """What the underlay delivers, given to `open`."""
        return self.loaded.program("open").run(frame)


assert ASSOCIATIONS >= 8
assert PEERS >= 4
