# SPDX-License-Identifier: GPL-3.0-or-later
"""What the play leaves on every host, asked of the host itself."""

from __future__ import annotations

import base64
import json

import pytest
from testinfra.host import Host

from brine import keys
from tests.labs import BRINE, HOSTS, Lab


@pytest.mark.parametrize("unit", ["brine-guard", "brine-dataplane", "brined"])
def test_units_are_up_and_come_back(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_nothing_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --quiet --no-legend") == ""
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_daemon_has_not_been_restarted(host: Host) -> None:
    assert host.check_output("systemctl show brined --property=NRestarts --value") == "0"


def test_the_daemon_is_confined(host: Host) -> None:
    pid = host.check_output("systemctl show brined --property=MainPID --value")
    status = dict(
        line.split(":\t", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines()
    )
    assert status["NoNewPrivs"].strip() == "1"
    assert int(status["CapBnd"], 16) != (1 << 41) - 1
    assert status["Seccomp"].strip() == "2"


def test_the_device_carries_the_hosts_addresses(host: Host, lab: Lab) -> None:
    links = json.loads(host.check_output("ip -json -details address show"))
    device = next(link for link in links if link["ifname"] == "brine0")
    assert {"UP", "LOWER_UP", "NOARP"} <= set(device["flags"])
    assert device["mtu"] == 1420
    addresses = {one["local"] for one in device["addr_info"] if one["scope"] != "link"}
    status = lab.status(host.backend.get_hostname())
    assert addresses == set(status["addresses"])
    key = base64.b64decode(status["public_key"])
    assert str(keys.overlay_address(key)) in addresses


def test_open_is_attached_natively(host: Host) -> None:
    link = json.loads(host.check_output("ip -json -details link show dev eth0"))[0]
    assert link["xdp"]["mode"] == 1  # XDP_ATTACHED_DRV
    assert "xdp" in link


def test_seal_is_attached(host: Host) -> None:
    filters = host.check_output("tc filter show dev brine0p ingress")
    assert "bpf" in filters
    assert "seal" in filters


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/etc/brine/identity.key", 0o600),
        ("/etc/brine/config.json", 0o644),
        ("/etc/brine/roster.json", 0o644),
        ("/run/brine/control.sock", 0o600),
        ("/sys/fs/bpf/brine", 0o700),
        ("/var/lib/brine", 0o700),
    ],
)
def test_modes(host: Host, path: str, mode: int) -> None:
    found = host.file(path)
    assert (found.user, found.group, oct(found.mode)) == ("root", "root", oct(mode))


def test_the_store_has_the_hosts_own_public_key(host: Host, lab: Lab) -> None:
    name = host.backend.get_hostname()
    private = base64.b64decode(host.check_output("cat /etc/brine/identity.key"))
    stored = base64.b64decode((lab.store / f"{name}.txt").read_text())
    assert keys.public_key(private) == stored


def test_the_rosters_are_the_same_bytes(lab: Lab) -> None:
    sums = {lab.run(name, "sha256sum /etc/brine/roster.json") for name in HOSTS}
    assert len(sums) == 1


def test_the_private_key_is_told_nowhere(host: Host) -> None:
    private = host.check_output("cat /etc/brine/identity.key")
    told = host.check_output(
        f"journalctl --no-pager --quiet; {BRINE} status; {BRINE} status --json;"
        f"{BRINE} identity show --json; cat /proc/[0-9]*/cmdline | tr '\\0' ' ';"
        "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '; cat /etc/brine/*.json"
    )
    assert len(private) == 44
    assert private[:20] not in told
    assert base64.b64decode(private).hex()[:20] not in told
