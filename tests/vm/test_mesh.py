# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh that site.yml made of the two machines."""

from __future__ import annotations

import concurrent.futures
import json

from tests.labs import BRINE, Lab
from tests.vm.machines import MACHINES, OTHER

XDP_ATTACHED_DRV = 1  # linux/if_link.h
# What the release's kernel loads by itself once a device or filter of the kind is asked for.
KINDS = {"veth", "sch_ingress", "cls_bpf"}
# What tests/bpf asks for, which may have run there before: a VXLAN inside the mesh.
KINDS |= {"vxlan", "udp_tunnel", "ip6_udp_tunnel"}
# What test_vlan asks for.
KINDS |= {"8021q", "garp", "mrp", "stp", "llc"}

# The digest of what came, once the sender has ended the connection.
RECEIVE = """
import hashlib, socket, sys
family, _, _, _, address = socket.getaddrinfo(sys.argv[1], 4748)[0]
with socket.create_server(address, family=family) as server:
    connection, _ = server.accept()
print(hashlib.file_digest(connection.makefile("rb"), "sha256").hexdigest())
"""
# The digest of 4 MiB, sent as soon as the other side listens.
SEND = """
import hashlib, socket, sys, time
deadline = time.monotonic() + 300
while True:
    try:
        connection = socket.create_connection((sys.argv[1], 4748))
        break
    except ConnectionRefusedError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
data = hashlib.shake_256(b"transfer").digest(4 << 20)
connection.sendall(data)
connection.close()
print(hashlib.sha256(data).hexdigest())
"""
PATTERN = "6272696e65206f6e20746865207769"  # ping -p takes 16 bytes at most, in hexadecimal


def test_open_is_attached_natively(lab: Lab, machine: str) -> None:
    """By virtio-net, with the offloads that it comes with."""
    assert lab.status(machine)["xdp_mode"] == "native"
    link = json.loads(lab.run(machine, "ip -json -details link show dev eth0"))[0]
    assert link["xdp"]["mode"] == XDP_ATTACHED_DRV
    driver = lab.run(machine, "ethtool -i eth0")
    assert "driver: virtio_net" in driver.splitlines()


def test_nothing_has_failed(lab: Lab, machine: str) -> None:
    assert lab.run(machine, "systemctl --failed --quiet --no-legend") == ""
    restarts = lab.run(machine, "systemctl show brined --property=NRestarts --value")
    assert restarts.strip() == "0"
    kernel = "_TRANSPORT=kernel SYSLOG_FACILITY=0"
    assert lab.run(machine, f"journalctl --boot --priority=err --quiet {kernel}") == ""


def test_each_reaches_the_other(lab: Lab, machine: str) -> None:
    for address in lab.status(OTHER[machine])["addresses"]:
        lab.run(machine, f"ping -c 3 -i 0.2 -W 10 {address}")
        lab.run(machine, f"ping -c 3 -i 0.2 -W 10 -s 1372 -M do {address}")


def test_a_transfer_arrives(lab: Lab, machine: str) -> None:
    """TCP finds no stall on any pair of kernels, either way."""
    address = lab.status(OTHER[machine])["addresses"][0]
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        received = beside.submit(lab.python, OTHER[machine], RECEIVE, address)
        sent = lab.python(machine, SEND, address)
        assert received.result() == sent


def test_nothing_is_in_the_clear_between_them(lab: Lab) -> None:
    with lab.wire() as frames:
        for machine, other in OTHER.items():
            address = lab.status(other)["addresses"][0]
            lab.run(machine, f"ping -c 3 -i 0.2 -W 10 -s 500 -p {PATTERN} {address}")
    sealed = [frame for frame in frames if frame.udp_payload and frame.udp_payload[0] == 4]
    assert len(sealed) >= 3 * 2 * len(OTHER)
    assert not [frame for frame in frames if bytes.fromhex(PATTERN) in frame.data]


def modules(text: str) -> set[str]:
    """The names in what /proc/modules held."""
    return {line.split()[0] for line in text.splitlines()}


def test_the_kernel_is_as_the_release_made_it(lab: Lab, machine: str) -> None:
    """No module but those of the devices and filters that any user of iproute2 gets."""
    before = modules(lab.run(machine, "cat /root/modules"))
    after = modules(lab.run(machine, "cat /proc/modules"))
    assert len(before) > 5
    assert after - before <= KINDS
    assert lab.run(machine, "cat /proc/sys/kernel/tainted") == "0\n"
    assert lab.run(machine, "find /opt/brine /etc/brine -name '*.ko*'") == ""


def test_verify_finds_nothing_wrong(lab: Lab, machine: str) -> None:
    answer = json.loads(lab.run(machine, f"{BRINE} verify --peers 1 --seconds 60 --json"))
    assert answer["findings"] == []
    assert len(answer["reached"]) == len(MACHINES) - 1
