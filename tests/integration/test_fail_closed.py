# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing of the mesh leaves in the clear, whatever is there and whatever is not."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

from pyroute2 import IPRoute

from brine import guard
from brine.netdev import GUARD_METRIC
from tests.integration.hosts import Host
from tests.integration.namespaces import Switch
from tests.integration.steps import apply, damage_device, damage_seal, other_object

PATTERN = b"in the clear, of all things"


class Talker:
    """Sends a known pattern to an address of the mesh and to one behind a peer, and knows
    whether anybody refused it."""

    def __init__(self, host: Host, addresses: list[str]) -> None:
        self._host = host
        self._addresses = addresses
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self.refused = self.taken = 0

    def __enter__(self) -> Talker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _talk(self) -> None:
        with (
            self._host.namespace.entered(),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talking,
        ):
            while not self._ending.is_set():
                for address in self._addresses:
                    try:
                        talking.sendto(PATTERN, (address, 9))
                        self.taken += 1
                    except OSError:
                        self.refused += 1
                time.sleep(0.0005)


def test_nothing_leaves_in_the_clear_from_the_guard_to_the_end(
    host: Host, switch: Switch, tmp_path: Path
) -> None:
    with host.namespace.entered(), IPRoute() as ip:
        ip.route("add", dst="default", gateway="192.0.2.2")
        ip.neigh(
            "add",
            dst="192.0.2.2",
            lladdr="02:00:00:00:00:02",
            ifindex=socket.if_nametoindex("eth0"),
        )
    roster = json.loads(host.paths.roster.read_text())
    for entry in roster["peers"]:
        if entry["name"] == "host2":
            entry["allowed_ips"] = ["192.168.50.0/24"]
    host.paths.roster.write_text(json.dumps(roster))
    addresses = ["10.77.0.2", "10.77.9.9", "192.168.50.1"]
    with switch.listen(host.port) as capture:
        host.inside(guard.apply, host.paths, False)
        with Talker(host, addresses) as talker:
            for _ in range(2):
                apply(host)
                host.apply_peers()
                damaged = host.inside(damage_device, host)
                assert damaged is None
                apply(host, object=str(other_object(host, tmp_path)))
                host.apply_peers()
                apply(host, max_peers=4)
                apply(host, max_peers=16)
        assert talker.refused
        assert talker.taken
    assert not [frame for frame in capture.frames if PATTERN in frame]
    # The same eyes do see it once the guard is gone.
    host.forget()
    with switch.listen(host.port) as capture, Talker(host, addresses):
        time.sleep(0.3)
    assert [frame for frame in capture.frames if PATTERN in frame]


def test_without_seal_packets_die_in_the_pair(host: Host, switch: Switch) -> None:
    apply(host)
    host.apply_peers()
    with host.namespace.entered(), IPRoute() as ip:
        ip.route("add", dst="default", gateway="192.0.2.2")
        # A router: what comes in on one device goes out of another.
        Path("/proc/sys/net/ipv4/conf/eth0/forwarding").write_text("1")
    host.inside(damage_seal, host)
    with switch.listen(host.port) as capture, Talker(host, ["10.77.0.2"]) as talker:
        time.sleep(0.3)
    assert talker.taken
    assert not [frame for frame in capture.frames if PATTERN in frame]


def test_guard(host: Host) -> None:
    predicted = host.inside(guard.apply, host.paths, True)
    assert predicted["changed"]
    assert host.inside(guard.apply, host.paths, False) == predicted
    assert not host.inside(guard.apply, host.paths, False)["changed"]
    with host.namespace.entered(), IPRoute() as ip:
        routes = [
            (item.get_attr("RTA_DST"), item["type"], item.get_attr("RTA_PRIORITY"))
            for family in (2, 10)
            for item in ip.get_routes(family=family, proto=98)
        ]
    assert routes == [
        ("10.77.0.0", 7, GUARD_METRIC),
        ("fd62:7269:6e65::", 7, GUARD_METRIC),
    ]
