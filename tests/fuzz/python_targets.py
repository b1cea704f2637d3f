# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever reads bytes that others write, as targets: what a parser says it raises, it may
raise, and nothing else. Each is made from a build directory (for the object's BTF), with its
seeds."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from brine import config, keys, messages, roster
from brine.btf import Btf
from brine.daemon import state
from brine.daemon.control_socket import ControlSocket
from brine.daemon.loop import Loop
from brine.daemon.timers import Timers
from brine.errors import BrineError
from brine.exchange import Credential, ExchangeKeys, Initiator, Responder
from brine.layout import Layout
from brine.libbpf import Object
from brine.messages import MalformedMessage, Refused
from brine.records import boot_ns
from tests import vectors

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Target:
    """`test` raises what is a finding."""

    test: Callable[[bytes], None]
    seeds: list[bytes]


def layout_of(build: Path) -> tuple[Layout, bytes]:
    """Of the object of this tree, and its BTF as bytes."""
    done = subprocess.run(
        ["make", "-C", str(ROOT / "bpf"), f"BUILD={build}"], check=False, capture_output=True
    )
    done.check_returncode()
    raw = build / "btf"
    subprocess.run(
        ["llvm-objcopy-19", f"--dump-section=.BTF={raw}", build / "brine.bpf.o", "/dev/null"],
        check=True,
    )
    opened = Object(str(build / "brine.bpf.o"))
    return Layout(opened.btf), raw.read_bytes()


def _exchanges() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = vectors.load("brine/exchange.json")
    return found


def _messages(build: Path) -> Target:
    """Shape only: what `parse` takes comes back as it was."""
    layout, _ = layout_of(build)
    packets = vectors.load("brine/packet.json")

    def test(data: bytes) -> None:
        try:
            kind = messages.kind(layout, data)
        except MalformedMessage:
            return
        assert bytes(messages.parse(layout, kind, data)) == data
        for read in (messages.mac1, messages.mac2, messages.noise_part, messages.receiver):
            try:
                read(layout, data)
            except MalformedMessage:
                assert (kind == messages.COOKIE) != (read is messages.receiver)

    seeds = [
        bytes.fromhex(one[name]) for one in _exchanges() for name in ("initiation", "response")
    ]
    seeds += [bytes.fromhex(one["cookie_message"]) for one in vectors.load("brine/mac.json")]
    seeds += [bytes.fromhex(one["packet"]) for kind in packets.values() for one in kind]
    return Target(test, seeds)


def _exchange(build: Path) -> Target:
    """A byte says which message follows and whether it gets a mac1 that fits. What was never
    sent by the peer has no effect."""
    layout, _ = layout_of(build)
    given = _exchanges()[0]
    sender = given["initiator_index"]
    private = {name: bytes.fromhex(given[f"{name}_private"]) for name in ("initiator", "responder")}
    public = {name: keys.public_key(one) for name, one in private.items()}
    psk, stamp = bytes.fromhex(given["psk"]), bytes.fromhex(given["timestamp"])
    responder = Responder(
        layout, [Credential(private["responder"], psk)], {public["initiator"]}.__contains__
    )
    made = ExchangeKeys(
        bytes.fromhex(given["initiator_ephemeral"]),
        bytes.fromhex(given["initiator_association"]),
        MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(given["kem_seed"])),
    )

    def begin() -> Initiator:
        return Initiator(
            layout, private["initiator"], public["responder"], psk, sender, stamp,
            exchange_keys=made,
        )  # fmt: skip

    initiator = begin()
    response = bytes.fromhex(given["response"])
    given_cookie = bytes(range(16))
    cookie = responder.cookie_reply(initiator.message, given_cookie)
    sizes = {name: ctypes.sizeof(getattr(layout, name)) for name in messages.EXCHANGE_KINDS}

    def test(data: bytes) -> None:
        how, message = data[:1], data[1:]
        kind = messages.EXCHANGE_KINDS[how[0] % 3] if how else messages.INITIATION
        if how and how[0] & 4 and kind != messages.COOKIE and len(message) == sizes[kind]:
            receiver = "responder" if kind == messages.INITIATION else "initiator"
            key = keys.mac1_key(psk, public[receiver])
            message = message[:-32] + keys.mac(key, message[:-32]) + message[-16:]
        try:
            if kind == messages.INITIATION:
                opened = responder.open_initiation(message)
                # mac2 is under no mac of its own
                assert message[:-16] == initiator.message[:-16]
                assert (opened.identity, opened.sender_index) == (public["initiator"], sender)
            elif kind == messages.RESPONSE:
                (begin() if message == response else initiator).consume(message)
                assert message == response
            else:
                assert initiator.consume_cookie(message) == given_cookie
        except Refused:
            pass

    seeds = [b"\0" + initiator.message, b"\4" + initiator.message, b"\1" + response]
    return Target(test, [*seeds, b"\5" + response, b"\2" + cookie])


ROSTER = {
    "version": 1,
    "networks": ["10.77.0.0/16", "fd62:7269:6e65::/48"],
    "peers": [
        {
            "name": "a",
            "public_key": keys.show_key(b"\1" * 32),
            "endpoint": "192.0.2.1:4747",
            "addresses": ["10.77.0.1", "fd62:7269:6e65::1"],
            "allowed_ips": ["198.51.100.0/24"],
            "roaming": False,
        },
        {
            "name": "b",
            "public_key": None,
            "endpoint": ["[2001:db8::2]:1", "192.0.2.2:1"],
            "addresses": [],
            "allowed_ips": ["::/0"],
            "roaming": True,
        },
    ],
}


def _roster(_build: Path) -> Target:
    def test(data: bytes) -> None:
        try:
            parsed = roster.parse(data.decode())
        except ValueError:
            return
        for entry in parsed.entries:
            assert entry.public_key is None or len(entry.public_key) == keys.KEY_BYTES
            assert len(entry.endpoints) <= roster.ENDPOINTS_LIMIT
            for endpoint in entry.endpoints:
                assert roster.parse_endpoint(str(endpoint)) == endpoint

    return Target(test, [json.dumps(ROSTER).encode()])


def _config(_build: Path) -> Target:
    given = {
        "bpffs": "/sys/fs/bpf/brine",
        "copy_dscp": False,
        "interface": "eth0",
        "kernel_derivation": True,
        "max_peers": 16,
        "mtu": None,
        "object": "/opt/brine/brine.bpf.o",
        "port": 4747,
        "roaming": False,
        "xdp_mode": "native",
    }

    def test(data: bytes) -> None:
        try:
            parsed = config.parse(data.decode(), config.Paths())
        except ValueError:
            return
        assert 0 < parsed.port < 65536
        assert 0 < len(os.fsencode(parsed.interface)) < 16

    return Target(test, [json.dumps(given).encode(), json.dumps({**given, "mtu": 1400}).encode()])


def _state(build: Path) -> Target:
    file = state.StateFile(build / "state.json")
    stamp = bytes.fromhex("400000006553f10a075bcd15")
    file.write(state.State(5, {b"\1" * 32: stamp}))
    seed = file.path.read_bytes()

    def test(data: bytes) -> None:
        file.path.write_bytes(data)
        try:
            read = file.read()
        except BrineError:
            return
        assert all(len(floor) == len(stamp) for floor in read.floors.values())

    return Target(test, [seed])


def _keys(_build: Path) -> Target:
    """Keys and endpoints as text."""

    def test(data: bytes) -> None:
        text = data.decode("latin-1")
        for read, show in ((keys.parse_key, keys.show_key), (roster.parse_endpoint, str)):
            try:
                found: Any = read(text)
            except ValueError:
                continue
            assert read(show(found)) == found

    return Target(test, [keys.show_key(b"\1" * 32).encode(), b"192.0.2.1:4747", b"[2001:db8::1]:1"])


def _btf(build: Path) -> Target:
    _, raw = layout_of(build)

    def test(data: bytes) -> None:
        try:
            read = Btf(data)
            read.enum("message_type")
            read.struct("association")
        except (ValueError, KeyError):
            pass

    # The whole is too long to be changed to effect: also its head with few types.
    header, length = 24, 1200
    strings = raw[header + int.from_bytes(raw[16:20], "little") :]
    short = raw[:12] + length.to_bytes(4, "little") + length.to_bytes(4, "little") + raw[20:24]
    return Target(test, [short + raw[header : header + length] + strings])


def _control(build: Path) -> Target:
    """The control socket itself, on the daemon's loop."""
    directory = Path(tempfile.mkdtemp(dir=build))
    path = directory / "control.sock"
    loop = Loop(Timers(boot_ns))

    def refuse(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise BrineError("it is so", "do something")

    control = ControlSocket(loop, path, {"status": dict, "rotate": refuse, "reload": dict})
    control.open()

    def test(data: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            answer = b""
            while True:
                try:
                    said = client.recv(1 << 17)
                except BlockingIOError:
                    loop.step()
                    continue
                except ConnectionResetError:  # closed with bytes that nobody read
                    break
                if not said:
                    break
                answer += said
        if answer:
            assert b"\n" in data
            assert json.loads(answer).keys() in ({"ok"}, {"error"})

    seeds = [b'{"verb": "status"}\n', b'{"verb": "rotate", "peer": "a"}\n', b"[[[[1]]]]\n"]
    return Target(test, seeds)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "messages": _messages,
    "exchange": _exchange,
    "roster": _roster,
    "config": _config,
    "state": _state,
    "keys": _keys,
    "btf": _btf,
    "control": _control,
}
