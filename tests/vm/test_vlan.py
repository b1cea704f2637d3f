# SPDX-License-Identifier: GPL-3.0-or-later
"""An underlay that is a VLAN device: the kernels have it as a module of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.labs import BRINE, Lab
from tests.vm.machines import MACHINES, OTHER

DEVICE = "eth0.7"

# Arguments: the interface, then what each endpoint is to be, by name.
EDIT = """
import json, sys
config, roster = "/etc/brine/config.json", "/etc/brine/roster.json"
for path in (config, roster):
    with open(path) as file:
        given = json.load(file)
    if path == config:
        given["interface"] = sys.argv[1]
    else:
        endpoints = dict(pair.split("=") for pair in sys.argv[2:])
        for peer in given["peers"]:
            peer["endpoint"] = endpoints[peer["name"]]
    with open(path, "w") as file:
        json.dump(given, file)
"""


def address(machine: str) -> str:
    """In the VLAN."""
    return f"198.18.7.{machine.removeprefix('vm')}"


def apply(lab: Lab, machine: str) -> None:
    lab.run(machine, f"{BRINE} dataplane apply && {BRINE} peers apply")


@pytest.fixture
def over_vlan(lab: Lab) -> Iterator[None]:
    """The mesh of both machines, on a VLAN device each; afterwards as it was."""
    kept = "/root/before-vlan"
    endpoints = [f"{name}={address(name)}:4747" for name in MACHINES]
    try:
        for machine in MACHINES:
            lab.run(machine, f"cp -a /etc/brine {kept}")
            lab.run(machine, f"ip link add link eth0 name {DEVICE} type vlan id 7")
            lab.run(machine, f"ip address add {address(machine)}/24 dev {DEVICE}")
            lab.run(machine, f"ip link set {DEVICE} up")
            lab.python(machine, EDIT, DEVICE, *endpoints)
            apply(lab, machine)
        yield
    finally:
        for machine in MACHINES:
            lab.run(machine, f"cp -a {kept}/*.json /etc/brine/")
            apply(lab, machine)
            lab.run(machine, f"ip link delete {DEVICE}; rm -r {kept}")


def sent(lab: Lab, machine: str) -> int:
    """Packets that left by the VLAN device."""
    links = json.loads(lab.run(machine, f"ip -json -statistics link show dev {DEVICE}"))
    packets: int = links[0]["stats64"]["tx"]["packets"]
    return packets


@pytest.mark.usefixtures("over_vlan")
def test_a_vlan_device_carries_the_mesh(lab: Lab) -> None:
    for machine, other in OTHER.items():
        before = sent(lab, machine)
        for inner in lab.status(other)["addresses"]:
            lab.run(machine, f"ping -c 1 -w 60 {inner}")  # the association moves over
            lab.run(machine, f"ping -c 3 -i 0.2 -W 10 -s 1372 -M do {inner}")
        assert sent(lab, machine) >= before + 8
        # No native XDP there: such a device only hands on what eth0 receives.
        assert lab.status(machine)["xdp_mode"] == "generic"
