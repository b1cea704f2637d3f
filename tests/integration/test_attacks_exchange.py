# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attacker can do to exchanges and to the daemon: not begin one, not end one, not be
answered, not stop it."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import random
import socket
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from brine import control_client, keys
from brine.daemon.timestamps import encode
from brine.errors import BrineError
from brine.exchange import NO_PSK, Initiator
from brine.layout import Layout
from brine.maps import Maps
from tests.bpf import packets
from tests.integration.conftest import Make
from tests.integration.hosts import PORT, Host, eventually
from tests.integration.namespaces import Switch
from tests.integration.test_attacks import resized
from tests.integration.test_mesh import confirmed
from tests.integration.wire import Wire, from_host, stats

INITIATION, RESPONSE, COOKIE = 1, 2, 3
# Encodings of points of small order: X25519 of each is zero (Curve25519, "May the fourth").
LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def index_of(host: Host, other: Host) -> object:
    """Which association it is."""
    found = host.association(other)
    assert found is not None
    return found["local_index"]


def refused(host: Host) -> dict[str, int]:
    """What the daemon refused, by reason."""
    found: dict[str, int] = host.ask("status")["refused"]
    return found


def floor(host: Host, other: Host) -> str | None:
    """The timestamp on disk below which `host` answers no INITIATION of `other`."""
    floors: dict[str, str] = json.loads(host.paths.daemon_state.read_text())["floors"]
    return floors.get(keys.show_key(other.public))


def layout_of(host: Host) -> tuple[Layout, dict[str, int]]:
    """The layout of the host's maps, and the sizes of the messages by name."""
    with Maps.of(host.config) as maps:
        layout = maps.layout
        names = ("message_initiation", "message_response", "message_cookie")
        return layout, {name: ctypes.sizeof(getattr(layout, name)) for name in names}


def exchange_frames(switch: Switch, one: Host, two: Host) -> tuple[list[bytes], list[bytes]]:
    """INITIATIONs of `one` and RESPONSEs of `two` of a new exchange, as they passed."""
    before = one.association(two)
    number = before["local_index"] if before else None
    with switch.listen(two.port) as capture:
        if before:
            one.ask("rotate", exchange=True)
        one.reach(two)

        def new() -> bool:
            """there is a new confirmed association"""
            return confirmed(one, two) and index_of(one, two) != number

        eventually(new)
    # What the stack left to the device to do, the checksum, these come without.
    frames = [
        from_host(capture.frames, host, kind) for host, kind in ((one, INITIATION), (two, RESPONSE))
    ]
    initiations, responses = ([resized(frame, frame[42:]) for frame in some] for some in frames)
    return initiations, responses


def test_recorded_exchanges_are_worthless(make: Make, switch: Switch) -> None:
    """At once, after a newer one, after the responder's daemon and maps began anew."""
    one, two = make(2)
    wire_one, wire_two = Wire(switch, one), Wire(switch, two)
    old = exchange_frames(switch, one, two)
    assert len(old[0]) >= 1
    assert len(old[1]) >= 1
    settled = index_of(two, one)
    eventually(lambda: floor(two, one) is not None)
    first_floor = floor(two, one)
    wire_two.inject(old[0])
    wire_one.inject(old[1])
    assert one.ping(two.inner4) is not None

    def both_refused() -> bool:
        """either message is refused, each for its reason"""
        return "a timestamp replayed" in refused(two) and stats(one)["open_unawaited"] > 0

    eventually(both_refused, 5)
    assert index_of(two, one) == settled
    # Older than the floor: perhaps the peer's clock was ahead, so the responder asks for a new
    # exchange, at most every 5 s; what was recorded has no part in it.
    recent = exchange_frames(switch, one, two)
    wire_two.inject(old[0] * 20)
    eventually(lambda: "a timestamp below" in refused(two), 5)
    asked = [line for line in two.log.splitlines() if "exchange started" in line]
    assert sum("an initiation below the floor" in line for line in asked) <= 1

    eventually(lambda: confirmed(one, two))
    eventually(lambda: floor(two, one) not in (None, first_floor))
    two.kill()
    two.forget()
    two.apply()
    two.start()
    wire_two.inject([*old[0], *recent[0]])
    eventually(lambda: sum(refused(two).values()) >= 2, 5)
    assert set(refused(two)) <= {"a timestamp below", "a timestamp replayed"}
    one.reach(two)
    two.reach(one)
    wire_one.close()
    wire_two.close()


def test_altered_and_reflected_exchange_messages(make: Make, switch: Switch) -> None:
    """A bit of each field, other lengths, one's own messages: silence, and no new state."""
    one, two = make(2)
    wires = {host: Wire(switch, host) for host in (one, two)}
    initiations, responses = exchange_frames(switch, one, two)
    settled = index_of(two, one), index_of(one, two)
    other_head = {wires[two]: initiations[0][:14], wires[one]: responses[0][:14]}
    before = stats(one), stats(two)
    with switch.listen(two.port) as capture:
        for wire, frame in ((wires[two], initiations[0]), (wires[one], responses[0])):
            message = frame[42:]
            altered = [
                message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :]
                for at in (4, 8, 40, 700, len(message) - 70, len(message) - 33, len(message) - 17)
            ]
            reserved = [message[:at] + b"\1" + message[at + 1 :] for at in (1, 2, 3)]
            lengths = [message[:-1], message + b"\0", message[:32]]
            wire.inject(resized(frame, one_of) for one_of in (*altered, *reserved, *lengths))
            # its own, from an address that nobody has
            other = wires[one] if wire is wires[two] else wires[two]
            own = str(ipaddress.IPv4Address(frame[26:30]))
            back = packets.udp_packet("192.0.2.77", own, message, ports=(PORT, PORT))
            other.inject([other_head[other] + back])

        def dropped() -> bool:
            """what has the right length and reserved bytes did not pass `open`"""
            wanted = {"open_unawaited": 7, "open_mac1": 1}, {"open_mac1": 7, "open_unawaited": 1}
            return all(
                stats(host)[name] - was[name] == count
                for host, was, counts in zip((one, two), before, wanted, strict=True)
                for name, count in counts.items()
            )

        eventually(dropped, 5)
        assert one.ping(two.inner4) is not None
        assert two.ping(one.inner4) is not None
    assert not from_host(capture.frames, two, INITIATION, RESPONSE, COOKIE)
    assert (index_of(two, one), index_of(one, two)) == settled
    for wire in wires.values():
        wire.close()


def test_low_order_points_and_strangers(make: Make, switch: Switch) -> None:
    """A stranger who knows a public key, in a mesh without a secret, can make mac1: but not
    an exchange, with no key of its own, nor with one that makes the secret known."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    settled = index_of(two, one)
    layout, _ = layout_of(two)
    mac1_key = keys.mac1_key(NO_PSK, two.public)
    messages = []
    for point in LOW_ORDER:
        private = keys.generate_private()
        message = Initiator(
            layout, private, two.public, NO_PSK, 5, encode(time.time_ns())
        ).message  # fmt: skip
        forged = message[:8] + point + message[40:-32]
        messages += [message, forged + keys.mac(mac1_key, forged) + bytes(16)]
    # Of the peer's identity, which the stranger knows too: `ss` fails.
    with switch.listen(two.port) as capture:
        with one.inside(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for message in messages:
                sender.sendto(message, (str(two.underlay4.ip), PORT))
        eventually(lambda: sum(refused(two).values()) >= 2 * len(LOW_ORDER), 5)
        assert one.ping(two.inner4) is not None
    reasons = refused(two)
    assert reasons.pop("an INITIATION from an identity outside the roster") == len(LOW_ORDER)
    assert sum(reasons.values()) == len(LOW_ORDER)
    assert not from_host(capture.frames, two, INITIATION, RESPONSE, COOKIE)
    assert index_of(two, one) == settled
    assert [peer["name"] for peer in two.status()["peers"]] == ["host1"]


def test_rubbish_of_every_kind(make: Make, switch: Switch) -> None:
    """Datagrams of each type and length, and those that come in fragments, past XDP."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    settled, pid = index_of(two, one), two.ask("status")["pid"]
    rng = random.Random(1)
    _, sizes = layout_of(two)
    lengths = [0, 1, 3, 4, 31, 32, 71, 72, 1400, 3000, 60000, *sizes.values()]
    before = stats(two)
    with switch.listen(two.port) as capture, one.inside(socket.socket, 2, 2) as sender:
        for kind in (*range(8), 64, 255):
            for length in lengths:
                data = bytes((kind, 0, 0, 0)) + rng.randbytes(max(length - 4, 0))
                sender.sendto(data[:length], (str(two.underlay4.ip), PORT))
            time.sleep(0.02)
        data = rng.randbytes(2000)
        for _ in range(50):
            sender.sendto(data[: rng.randrange(200)], (str(two.underlay4.ip), PORT))
        assert one.ping(two.inner4) is not None
    after = stats(two)
    assert after["open_malformed"] > before["open_malformed"]
    assert after["open_mac1"] > before["open_mac1"]
    assert after["open_unawaited"] - before["open_unawaited"] >= 2
    assert two.ask("status")["pid"] == pid
    assert sum(refused(two).values()) > 0
    assert index_of(two, one) == settled
    assert not from_host(capture.frames, two, RESPONSE, COOKIE)
    assert "Traceback" not in two.log


def as_nobody(host: Host, path: str) -> subprocess.CompletedProcess[str]:
    """Try to connect to the control socket, as a user who is not root. Descriptors lead past
    the directories above it."""
    directory = os.open(host.paths.run, os.O_PATH)
    itself = os.open(host.paths.control_socket, os.O_PATH)
    names = {
        "directory": f"/proc/self/fd/{directory}/control.sock",
        "itself": f"/proc/self/fd/{itself}",
    }
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    try:
        return subprocess.run(
            ["/usr/bin/python3", "-c", code, names[path]],
            user=65534, group=65534, extra_groups=[], pass_fds=(directory, itself),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(directory)
        os.close(itself)


def test_control_socket_is_roots_and_bears_garbage(make: Make) -> None:
    (one,) = make(1)
    mode = one.paths.control_socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o777 == 0o600
    for path in ("directory", "itself"):
        done = as_nobody(one, path)
        assert "PermissionError" in done.stderr, done
    pid = one.ask("status")["pid"]
    rng = random.Random(2)
    garbage = [
        b"\n", b"\0\n", b"[" * 60000 + b"\n", b'{"verb": ' * 6000 + b"\n", b'{"verb": "no"}\n',
        b'{"verb": ["status"]}\n', b"[]\n", b"null\n", b'"status"\n', b"9" * 5000 + b"\n",
        b"x" * (1 << 17), b'{"verb": "rotate", "peer": {"a": []}}\n',
        b'{"verb": "rotate", "peer": "\\ud800"}\n',
        *(rng.randbytes(rng.randrange(2000)) + b"\n" for _ in range(50)),
    ]  # fmt: skip
    held = []
    for data in garbage:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(str(one.paths.control_socket))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(data)
        held.append(client)  # and never reads
    assert one.ask("status")["pid"] == pid
    for client in held:
        client.close()
    with pytest.raises(BrineError, match="does not understand"):
        control_client.request(one.paths.control_socket, "no such verb")
    assert "Traceback" not in one.log


KILLS = 100


def test_killed_a_hundred_times(make: Make) -> None:
    """Either daemon, at any moment: while it starts, exchanges, writes its state. The data
    path does not notice."""
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    rng = random.Random(3)
    ending = threading.Event()
    kills = dict.fromkeys((one, two), 0)
    seconds = 40.0

    def torment(host: Host, moments: list[float]) -> None:
        for moment in moments:
            time.sleep(moment)
            host.kill()
            host.spawn()
            kills[host] += 1
            if ending.is_set():
                return

    def rotate() -> int:
        done = 0
        while not ending.wait(0.3):
            for host in (one, two):
                try:
                    host.ask("rotate", exchange=True)
                    done += 1
                except (BrineError, OSError, ValueError):
                    pass  # it was killed meanwhile
        return done

    # Python takes some tenths of a second to start: before and after it is ready.
    moments = [[rng.uniform(0, 1.4) for _ in range(KILLS // 2)] for _ in range(2)]
    with ThreadPoolExecutor(5) as pool:
        receiver = pool.submit(two.probe_receive, seconds + 60, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, seconds)
        rotating = pool.submit(rotate)
        killing = [pool.submit(torment, *pair) for pair in zip((one, two), moments, strict=True)]
        (run,) = receiver.result()["runs"]
        sender.result()
        for each in killing:
            each.result()
        ending.set()
        assert rotating.result() > 5
    assert sum(kills.values()) == KILLS
    assert run["complete"]
    assert (run["lost"], run["duplicated"]) == (0, 0)
    for host in (one, two):
        host.kill()
        host.start()
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    assert "Traceback" not in one.log + two.log
