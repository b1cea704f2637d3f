# SPDX-License-Identifier: GPL-3.0-or-later
"""A host behind an address translator, the kernel's own, on a router in between."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from tests.integration.hosts import PORT, Host, eventually, roster_of
from tests.integration.namespaces import Namespace, Switch
from tests.integration.steps import address_of

FORGETS = 30  #: s, after which the translator forgets a flow that is silent
FIRST, SECOND = "192.0.2.101", "192.0.2.102"
TRANSLATE = """
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname "outside" ip protocol udp masquerade to :20000-29999
  }
}
"""


class Router:
    """Between `inside`, 10.9.0.0/24, and the underlay of the others."""

    def __init__(self, underlay: Switch, inside: Switch) -> None:
        self.namespace = Namespace()
        for switch, name, address in (
            (underlay, "outside", FIRST),
            (inside, "inside", "10.9.0.1"),
        ):
            switch.connect(self.namespace, "router", [])
            with self.namespace.entered(), IPRoute() as ip:
                index = ip.link_lookup(ifname="eth0")[0]
                ip.link("set", index=index, state="down")
                ip.link("set", index=index, ifname=name)
                ip.link("set", index=index, state="up")
            self.address("add", name, address)
        with self.namespace.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            subprocess.run(["nft", "-f", "-"], input=TRANSLATE, text=True, check=True)
            for each in ("udp_timeout", "udp_timeout_stream"):
                Path(f"/proc/sys/net/netfilter/nf_conntrack_{each}").write_text(str(FORGETS))

    def address(self, action: str, device: str, address: str) -> None:
        with self.namespace.entered(), IPRoute() as ip:
            # else the first address of a network takes the others with it
            Path(f"/proc/sys/net/ipv4/conf/{device}/promote_secondaries").write_text("1")
            index = ip.link_lookup(ifname=device)[0]
            ip.addr(action, index=index, address=address, prefixlen=24)

    def close(self) -> None:
        self.namespace.close()


@pytest.fixture
def inside() -> Iterator[Switch]:
    made = Switch()
    yield made
    made.close()


@pytest.fixture
def router(switch: Switch, inside: Switch) -> Iterator[Router]:
    made = Router(switch, inside)
    yield made
    made.close()


@pytest.fixture
def hosts(
    switch: Switch, inside: Switch, router: Router, tmp_path: Path, bpffs: Path, bpf_object: Path
) -> Iterator[list[Host]]:
    """One on the underlay, and one behind the router that roams."""
    home = Host(switch, 1, tmp_path / "home", bpffs, bpf_object)
    rover = Host(inside, 2, tmp_path / "rover", bpffs, bpf_object)
    address_of(rover, "add", "10.9.0.2")
    address_of(rover, "del", "192.0.2.2")
    with rover.namespace.entered(), IPRoute() as ip:
        ip.route("add", dst="default", gateway="10.9.0.1")
    for host in (home, rover):
        host.configure(roster_of([home, rover], roaming={2}))
        host.change(roaming=host is rover)
        host.apply()
        host.start()
    yield [home, rover]
    for host in (home, rover):
        host.kill()
        host.forget()
        host.close()


def test_behind_a_translator(hosts: list[Host], router: Router) -> None:
    home, rover = hosts

    def connected() -> bool:
        """the rover has reached home, unasked"""
        return home.association(rover) is not None

    eventually(connected)
    assert home.ping(rover.inner4, 5) is not None
    address, port = home.peer(rover)["endpoint"].split(":")
    assert address == FIRST
    assert 20000 <= int(port) < 30000  # the translator's, not PORT
    assert int(port) != PORT

    # What would be forgotten without keepalives still leads in.
    time.sleep(FORGETS + 5)
    association = home.association(rover)
    assert home.ping(rover.inner4) is not None

    # The router moves, and with it all that it translates to: the first data says so.
    router.address("add", "outside", SECOND)
    router.address("del", "outside", FIRST)
    rover.reach(home)

    def followed() -> bool:
        """home sends to the translator's other address"""
        return bool(home.peer(rover)["endpoint"].startswith(f"{SECOND}:"))

    eventually(followed)
    assert home.ping(rover.inner4, 5) is not None
    now = home.association(rover)
    assert association is not None
    assert now is not None
    assert now["local_index"] == association["local_index"]  # no exchange was needed
