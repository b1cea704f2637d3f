# SPDX-License-Identifier: GPL-3.0-or-later
"""maps.py on real maps, pinned in a bpffs of this test's own."""

from __future__ import annotations

import ctypes
import dataclasses
import ipaddress
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brine import libbpf, loader, pins
from brine.errors import BrineError
from brine.keys import Box
from brine.libbpf import Map, Program
from brine.maps import ControlError, Maps, StaleMaps, boot_ns, pin_directory
from brine.roster import Endpoint, parse_endpoint

MAX_PEERS = 8
SECOND = 1_000_000_000
IDENTITY = [bytes([number + 1]) * 32 for number in range(MAX_PEERS)]


@dataclasses.dataclass
class Given:
    """What an exchange would have established."""

    peer_identity: bytes = IDENTITY[0]
    initiated: bool = True
    local_index: int = 0x01020304
    remote_index: int = 0x0A0B0C0D
    secret: bytes = dataclasses.field(default_factory=lambda: os.urandom(32))
    send_header_key: bytes = dataclasses.field(default_factory=lambda: os.urandom(32))
    receive_header_key: bytes = dataclasses.field(default_factory=lambda: os.urandom(32))
    own_private: bytes = dataclasses.field(default_factory=lambda: os.urandom(32))
    own_public: bytes = dataclasses.field(default_factory=lambda: os.urandom(32))
    peer_public: bytes = dataclasses.field(default_factory=lambda: os.urandom(32))
    send: Box = dataclasses.field(default_factory=lambda: Box(os.urandom(32), os.urandom(16)))
    receive: Box = dataclasses.field(default_factory=lambda: Box(os.urandom(32), os.urandom(16)))


@pytest.fixture
def directory(bpffs: Path, bpf_object: Path) -> Path:
    """Pins of a fresh load."""
    return load(bpffs / "v1", bpf_object)


@pytest.fixture
def maps(directory: Path, tmp_path: Path) -> Iterator[Maps]:
    with Maps.open(directory, tmp_path / "run" / "control.lock") as opened:
        yield opened


def load(directory: Path, bpf_object: Path) -> Path:
    directory.mkdir()
    opened = loader.open_object(bpf_object)
    loader.load(opened, directory, MAX_PEERS)
    pins.pin_programs(directory, {"control": opened.program("control")})
    opened.close()
    return directory


def install(maps: Maps, number: int, peer: int = 0, **changes: Any) -> Given:
    established = Given(peer_identity=IDENTITY[peer], **changes)
    now = boot_ns()
    maps.install(number, peer, established, now + 300 * SECOND, now + 360 * SECOND)
    return established


def test_nothing_is_loaded(tmp_path: Path) -> None:
    for call in (lambda: pin_directory(tmp_path), lambda: Maps.open(tmp_path / "v1")):
        with pytest.raises(BrineError) as failure:
            call()
        assert failure.value.cause == "the data path is not loaded"
        assert failure.value.next_step == "run `brine dataplane apply`"


def test_the_newest_layout_is_the_one_in_use(tmp_path: Path) -> None:
    for name in ("v9", "v10", "v11_next", "v12_old", "other"):
        (tmp_path / name).mkdir()
    assert pin_directory(tmp_path).name == "v10"


def test_every_map_but_scratch_is_pinned_by_its_name(directory: Path, bpf_object: Path) -> None:
    opened = loader.open_object(bpf_object)
    lasting = {
        name
        for name in opened.map_names()
        if not name.endswith("_areas") and not name.startswith("selftest") and "." not in name
    }
    opened.close()
    assert {path.name for path in directory.iterdir()} == lasting | {"control"}
    assert {"config", "peers", "routes", "associations", "boxes", "windows", "events"} <= lasting


def test_sizes_follow_max_peers(directory: Path, maps: Maps) -> None:
    assert maps.max_peers == MAX_PEERS
    slots = loader.association_slots(MAX_PEERS)
    assert slots >= 2 * MAX_PEERS
    sizes = {}
    for name in ("associations", "boxes", "counters", "windows", "indices", "peer_states"):
        item = Map.pinned(str(directory / name))
        sizes[name] = item.max_entries
        item.close()
    assert sizes == {
        "associations": slots,
        "boxes": slots * 8,
        "counters": slots * 4,
        "windows": slots * 4,
        "indices": slots,
        "peer_states": MAX_PEERS,
    }


def test_peers(maps: Maps) -> None:
    assert maps.peers() == {}
    v4, v6 = parse_endpoint("192.0.2.7:4747"), parse_endpoint("[2001:db8::7]:258")
    maps.write_peer(0, IDENTITY[0], v4, roaming=False)
    maps.write_peer(5, IDENTITY[5], v6, roaming=True)
    maps.write_peer(7, IDENTITY[7], None, roaming=True)
    found = maps.peers()
    assert {number: peer.endpoint for number, peer in found.items()} == {0: v4, 5: v6, 7: None}
    assert {number: peer.roaming for number, peer in found.items()} == {0: False, 5: True, 7: True}
    assert all(peer.identity == IDENTITY[number] for number, peer in found.items())
    with pytest.raises(OSError, match="peers"):
        maps.write_peer(MAX_PEERS, IDENTITY[0], None, roaming=False)


def test_ports_and_addresses_lie_as_the_programs_read_them(directory: Path, maps: Maps) -> None:
    maps.write_peer(1, IDENTITY[1], parse_endpoint("192.0.2.7:4747"), roaming=False)
    item = Map.pinned(str(directory / "peers"))
    raw = item.lookup(struct.pack("<I", 1))
    item.close()
    assert raw is not None
    mapped = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7])
    assert raw[32:56] == mapped + struct.pack("!H", 4747) + bytes(6)


_PREFIXES = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda pair: ipaddress.ip_network(pair, strict=False)
    ),
    st.tuples(st.integers(2**112, 2**128 - 1), st.integers(1, 128)).map(
        lambda pair: ipaddress.ip_network((ipaddress.IPv6Address(pair[0]), pair[1]), strict=False)
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.dictionaries(_PREFIXES, st.integers(0, 2**32 - 1), max_size=20))
def test_routes_come_back_as_they_went(maps: Maps, routes: dict[Any, int]) -> None:
    for network, value in routes.items():
        maps.set_route(network, value)
    assert maps.routes() == routes
    for network in routes:
        maps.delete_route(network)
        maps.delete_route(network)  # a missing one is no error
    assert maps.routes() == {}


def test_values_of_routes(maps: Maps) -> None:
    values = maps.route_values
    assert values.own != values.nobody
    assert values.peer(values.own) is values.peer(values.nobody) is None
    assert values.peer(5) == values.peer(5 + values.outside) == 5


def test_endpoints_are_listed_by_address_alone(maps: Maps) -> None:
    one, two = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")
    maps.set_endpoint(one, 3)
    maps.set_endpoint(two, 4)
    maps.set_endpoint(one, 5)
    assert maps.endpoints() == {one: 5, two: 4}
    maps.delete_endpoint(one)
    assert maps.endpoints() == {two: 4}


def test_config_comes_back_as_it_went(maps: Maps) -> None:
    config = maps.config()
    config.flow_secret = 0x1122334455667788
    config.brine0_mac[:] = b"\2\1\2\3\4\5"
    maps.write_config(config)
    assert bytes(maps.config()) == bytes(config)
    assert maps.config().flow_secret == 0x1122334455667788


def test_the_life_of_an_association(maps: Maps) -> None:
    maps.write_peer(0, IDENTITY[0], None, roaming=False)
    begin = boot_ns()
    install(maps, 3, initiated=True, local_index=77, remote_index=88)
    (association,) = maps.associations()
    assert association == maps.association(3)
    assert association.number == 3
    assert association.peer == 0
    assert association.state == "unconfirmed"
    assert (association.local_index, association.remote_index) == (77, 88)
    assert association.initiated
    assert begin <= association.created <= boot_ns()
    assert association.send_not_after - association.created <= 300 * SECOND
    assert association.receive_not_after - association.send_not_after == 60 * SECOND
    assert maps.peer_state(0).sending is None
    maps.publish(3)
    assert maps.peer_state(0).sending == 3
    maps.erase(3)
    assert maps.associations() == []
    assert maps.association(3) is None
    assert maps.peer_state(0).sending is None
    maps.erase(3)  # an erased one is no error


def test_a_responder_waits(maps: Maps) -> None:
    maps.write_peer(0, IDENTITY[0], None, roaming=False)
    install(maps, 0, initiated=False)
    assert [association.state for association in maps.associations()] == ["pending"]
    with pytest.raises(ControlError) as failure:
        maps.publish(0)
    assert failure.value.result == "CONTROL_NO_ASSOCIATION"


def test_what_control_refuses_has_a_name(maps: Maps) -> None:
    maps.write_peer(0, IDENTITY[0], None, roaming=False)
    install(maps, 0, local_index=1)
    for number, peer, changes, result in (
        (0, 0, {"local_index": 2}, "CONTROL_NOT_FREE"),
        (1, 0, {"local_index": 1}, "CONTROL_INDEX_TAKEN"),
        (1, 1, {"local_index": 3}, "CONTROL_WRONG_PEER"),
        (999, 0, {"local_index": 4}, "CONTROL_BAD_REQUEST"),
    ):
        with pytest.raises(ControlError) as failure:
            install(maps, number, peer, **changes)
        assert failure.value.result == result


def test_no_object_of_this_process_holds_a_secret(maps: Maps) -> None:
    maps.write_peer(0, IDENTITY[0], None, roaming=False)
    established = install(maps, 0)
    seen = [repr(maps.associations()), repr(maps.association(0)), repr(maps.peers())]
    raw = bytes(maps._association(0))  # what is read, before anything is taken from it
    for secret in (
        established.secret,
        established.own_private,
        established.send_header_key,
        established.receive_header_key,
    ):
        assert secret not in raw
        assert not any(repr(secret) in text or secret.hex() in text for text in seen)


def test_a_request_is_overwritten(
    directory: Path, maps: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps.write_peer(0, IDENTITY[0], None, roaming=False)
    requests: list[ctypes.Structure] = []
    call = Program.call

    def watched(self: Program, context: ctypes.Structure) -> int:
        requests.append(context)
        assert any(bytes(context))
        return call(self, context)

    monkeypatch.setattr(Program, "call", watched)
    install(maps, 0)
    with pytest.raises(ControlError):
        install(maps, 0)
    (directory / "control").unlink()
    with pytest.raises(OSError, match="control"):
        install(maps, 1)
    assert len(requests) == 2
    assert not any(any(bytes(request)) for request in requests)


def test_an_erased_slot_rests(maps: Maps) -> None:
    maps.write_peer(0, IDENTITY[0], None, roaming=False)
    slots = loader.association_slots(MAX_PEERS)
    first = maps.free_association(0)
    install(maps, first, local_index=1)
    assert maps.free_association(0) != first
    maps.erase(first)
    assert maps.free_association(0) != first
    for number in range(slots):
        if number != first:
            install(maps, number, local_index=100 + number)
    with pytest.raises(BrineError, match="in use or at rest"):
        maps.free_association(0)


def test_peers_start_in_places_of_their_own(maps: Maps) -> None:
    assert len({maps.free_association(peer) for peer in range(MAX_PEERS)}) == MAX_PEERS


def test_a_cleared_peer_leaves_nothing_and_others_keep_theirs(maps: Maps) -> None:
    for peer in (0, 1, 2):
        maps.write_peer(peer, IDENTITY[peer], None, roaming=False)
        install(maps, peer, peer, local_index=peer + 1)
        maps.publish(peer)
    install(maps, 5, 1, local_index=50)
    maps.clear_peers({1})
    assert sorted(maps.peers()) == [0, 2]
    assert [association.peer for association in maps.associations()] == [0, 2]
    assert [maps.peer_state(peer).sending for peer in (0, 1, 2)] == [0, None, 2]
    with pytest.raises(ControlError) as failure:
        install(maps, 6, 1, local_index=60)
    assert failure.value.result == "CONTROL_WRONG_PEER"


def test_counters_are_summed_over_cpus(directory: Path, maps: Maps) -> None:
    cpus = libbpf.possible_cpus()
    traffic, stats = (Map.pinned(str(directory / name)) for name in ("traffic", "stats"))
    traffic.update(
        struct.pack("<I", 2),
        b"".join(struct.pack("<4Q", 1, 10, 2, 20 + cpu) for cpu in range(cpus)),
    )
    number = maps.layout.enum("stat")["STAT_OPEN_FORGED"]
    stats.update(struct.pack("<I", number), struct.pack("<2Q", 3, 300) * cpus)
    traffic.close()
    stats.close()
    counted = maps.traffic(2)
    assert (counted.sent_packets, counted.sent_bytes) == (cpus, 10 * cpus)
    assert counted.received_packets == 2 * cpus
    assert counted.received_bytes == sum(20 + cpu for cpu in range(cpus))
    assert maps.stats()["open_forged"] == (3 * cpus, 300 * cpus)
    assert "s" not in maps.stats()
    assert set(maps.stats()) == {
        name.removeprefix("STAT_").lower()
        for name in maps.layout.enum("stat")
        if name.startswith("STAT_")
    }


def test_peer_states_are_seen_in_place(directory: Path, maps: Maps) -> None:
    assert maps.peer_state(4).last_sent == 0
    states = Map.pinned(str(directory / "peer_states"))
    states.update(struct.pack("<I", 4), struct.pack("<IIQQQQ", 8, 0, 11, 22, 33, 44))
    states.close()
    found = maps.peer_state(4)
    assert found.sending == 7
    assert (found.last_sent, found.last_received) == (11, 22)
    assert (found.last_data_sent, found.last_data_received) == (33, 44)
    with pytest.raises(IndexError):
        maps.peer_state(MAX_PEERS)


def test_replaced_maps_are_noticed_and_never_written(
    maps: Maps, directory: Path, bpf_object: Path
) -> None:
    maps.write_peer(0, IDENTITY[0], None, roaming=False)
    assert not maps.stale()
    pins.delete(directory)
    assert maps.stale()
    load(directory, bpf_object)
    assert maps.stale()
    with pytest.raises(StaleMaps):
        install(maps, 0)
    with Maps.open(directory, directory.parent / "lock") as new:
        assert new.associations() == []


def test_callers_of_control_take_turns(maps: Maps) -> None:
    """A second caller waits until the first lets the lock go."""
    done = threading.Event()

    def erase() -> None:
        maps.erase(0)
        done.set()

    with maps.locked():
        caller = threading.Thread(target=erase)
        caller.start()
        time.sleep(0.2)
        assert not done.is_set()
    caller.join(10)
    assert done.is_set()


def test_an_endpoint_is_what_was_written(maps: Maps) -> None:
    learned = Endpoint(ipaddress.ip_address("203.0.113.5"), 65535)
    maps.write_peer(0, IDENTITY[0], learned, roaming=True)
    assert maps.peers()[0].endpoint == learned
