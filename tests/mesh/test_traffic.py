# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mesh does with traffic: carried whole, never in the clear, or not at all."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from tests.labs import BRINE, HOSTS, Frame, Lab

PATTERN = b"a pattern that nobody else on this wire would send"
PORT = 4747
DATA = (4, 5)  # types of sealed packets


def sealed(frames: list[Frame]) -> list[bytes]:
    """The sealed packets among the frames."""
    payloads = [frame.udp_payload for frame in frames]
    return [payload for payload in payloads if payload and payload[0] in DATA]


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(HOSTS, 2)))
def test_every_pair_reaches_each_other(lab: Lab, source: str, target: str) -> None:
    for address in lab.status(target)["addresses"]:
        lab.run(source, f"ping -c 2 -i 0.2 -W 10 {address}")
        lab.run(source, f"ping -c 2 -i 0.2 -W 10 -s 1372 -M do {address}")


SINK = """
import hashlib, os, socket, sys
server = socket.create_server((sys.argv[1], 5000))
if os.fork():
    sys.exit()
os.setsid()
for descriptor in range(3):
    os.close(descriptor)
connection = server.accept()[0]
state = hashlib.sha256()
while data := connection.recv(1 << 16):
    state.update(data)
connection.sendall(state.hexdigest().encode())
"""

SOURCE = """
import hashlib, os, socket, sys
connection = socket.create_connection((sys.argv[1], 5000), timeout=60)
data = os.urandom(20_000_000)
connection.sendall(data)
connection.shutdown(socket.SHUT_WR)
print(connection.recv(64).decode() == hashlib.sha256(data).hexdigest())
"""


def test_a_transfer_arrives_whole(lab: Lab) -> None:
    """20 MB of noise over TCP, compared by its hash."""
    address = lab.address("lab2")
    lab.python("lab2", SINK, address)
    assert lab.python("lab1", SOURCE, address) == "True\n"


SENDER = """
import socket, sys
pattern, address = sys.argv[1].encode(), sys.argv[2]
sender = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
refused = 0
for times in (1, 4, 20):
    try:
        sender.sendto(pattern * times, (address, 9))
    except OSError:
        refused += 1
print(refused)
"""


def send_pattern(lab: Lab, name: str, address: str) -> int:
    """Let a host send the pattern in three datagrams; how many its kernel refused."""
    return int(lab.python(name, SENDER, PATTERN.decode(), address))


def test_nothing_is_in_the_clear(lab: Lab) -> None:
    addresses = lab.status("lab2")["addresses"]
    with lab.wire() as frames:
        for address in addresses:
            lab.run("lab1", f"ping -c 1 -W 10 -p {PATTERN[:16].hex()} {address}")
            send_pattern(lab, "lab1", address)
    assert len(sealed(frames)) >= 2 * 5  # echo, reply, and three datagrams, twice
    for frame in frames:
        assert PATTERN[:12] not in frame.data
        # Nor an inner header: no packet is from or to an address of the mesh.
        assert bytes([10, 77, 0]) not in frame.data[14:42]
        assert bytes.fromhex("fd627269") not in frame.data[14:62]


def test_the_pattern_would_be_seen(lab: Lab) -> None:
    """The capture above can fail: sent past the mesh, the same pattern is on the wire."""
    with lab.wire() as frames:
        send_pattern(lab, "lab1", lab.endpoint("lab2"))
    assert sum(PATTERN in frame.data for frame in frames) >= 3


# Of both Debian releases, if the lab has them; and whom each of them sends to.
SENDERS = {"lab1": "lab3", "lab2": "lab3"}


@pytest.fixture(params=sorted(SENDERS))
def sender(request: pytest.FixtureRequest) -> str:
    return str(request.param)


ALONE = """
import json, sys
roster = json.load(open("/etc/brine/roster.json"))
roster["peers"] = [peer for peer in roster["peers"] if peer["name"] == sys.argv[1]]
json.dump(roster, open("/run/alone.json", "w"))
"""


@pytest.fixture
def without_boxes(lab: Lab, sender: str) -> Iterator[None]:
    """A host without its daemon and with no association; afterwards as it was."""
    lab.run(sender, "systemctl stop brined")
    lab.python(sender, ALONE, sender)
    # A peer that goes takes its associations along; one that comes has none.
    lab.run(sender, f"{BRINE} peers apply --roster /run/alone.json && {BRINE} peers apply")
    yield
    lab.run(sender, "rm /run/alone.json; systemctl start brined")
    healed(lab, sender)


def healed(lab: Lab, name: str) -> None:
    """Wait until the host reaches its peers again."""
    answer = json.loads(lab.run(name, f"{BRINE} verify --peers 2 --seconds 60 --json"))
    assert answer["findings"] == []


@pytest.mark.usefixtures("without_boxes")
def test_without_a_daemon_and_a_box_nothing_is_sent(lab: Lab, sender: str) -> None:
    peers = lab.status(sender)["peers"]
    assert [peer["association"] for peer in peers] == [None, None]
    addresses = lab.status(SENDERS[sender])["addresses"]
    before = sum(lab.status(sender)["drops"].values())
    with lab.wire() as frames:
        for address in addresses:
            send_pattern(lab, sender, address)
            assert lab.try_(sender, f"ping -c 1 -W 1 {address}").returncode != 0
    assert not any(PATTERN[:12] in frame.data for frame in frames)
    own = bytes(map(int, lab.endpoint(sender).split(".")))
    assert not [frame for frame in frames if frame.data[26:30] == own and frame.udp_payload]
    assert sum(lab.status(sender)["drops"].values()) >= before + 4 * len(addresses)


def test_without_the_device_nothing_is_sent(lab: Lab, sender: str) -> None:
    """The guard's routes refuse what would otherwise take the default route."""
    target = SENDERS[sender]
    addresses = lab.status(target)["addresses"]
    gateways = (
        ("ip", lab.endpoint(target)),
        ("ip -6", f"2001:db8:4747::1{target.removeprefix('lab')}"),
    )
    for command, gateway in gateways:
        lab.run(sender, f"{command} route add default via {gateway}")
    lab.run(sender, "ip link delete brine0")
    try:
        with lab.wire() as frames:
            refused = [send_pattern(lab, sender, address) for address in addresses]
        assert refused == [3] * len(addresses)
        assert not any(PATTERN[:12] in frame.data for frame in frames)
    finally:
        for command, gateway in gateways:
            lab.run(sender, f"{command} route delete default via {gateway}")
        lab.run(sender, "systemctl restart brine-dataplane")
    healed(lab, sender)
