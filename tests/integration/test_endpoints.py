# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with several endpoints: of both families, and two addresses of one."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from brine import doctor, verify
from tests.integration.conftest import Make
from tests.integration.hosts import PORT, Host, eventually, roster_of
from tests.integration.namespaces import Switch
from tests.integration.steps import address_of
from tests.integration.test_mesh import confirmed

#: s; 27 of them are the daemon's (docs/protocol.md), the rest is for a machine that is busy
FAILOVER = 120
DROP = """
table bridge dark {{
  chain forward {{
    type filter hook forward priority 0
    ip saddr {address} drop
    ip daddr {address} drop
  }}
}}
"""


def v4(host: Host) -> str:
    return f"{host.underlay4.ip}:{PORT}"


def v6(host: Host) -> str:
    return f"[{host.underlay6.ip}]:{PORT}"


def spread(hosts: list[Host], **endpoints: Any) -> list[dict[str, Any]]:
    """The roster in which the hosts have these endpoints, brought to all of them; what
    `brine peers apply` answered."""
    roster = json.loads(roster_of(hosts))
    for entry in roster["peers"]:
        entry["endpoint"] = endpoints[entry["name"]]
    answers = []
    for host in hosts:
        host.paths.roster.write_text(json.dumps(roster))
        answers.append(host.apply_peers())
    return answers


def darken(switch: Switch, address: str) -> None:
    """Nothing to or from that address passes the switch any more."""
    with switch.namespace.entered():
        subprocess.run(
            ["nft", "-f", "-"], input=DROP.format(address=address), text=True, check=True
        )


def lighten(switch: Switch) -> None:
    with switch.namespace.entered():
        subprocess.run(["nft", "delete", "table", "bridge", "dark"], check=True)


def reaches(one: Host, two: Host, used: str) -> None:
    """Until `one` sends to `two` at that endpoint, and is answered."""

    def there() -> bool:
        """it sends there, and is answered"""
        return one.ping(two.inner4) is not None and one.peer(two)["endpoint"] == used

    eventually(there, FAILOVER)


def dual(make: Make) -> tuple[Host, Host]:
    """Two hosts with an endpoint of each family, that have met over IPv4."""
    one, two = make(2)
    spread([one, two], **{host.name: [v4(host), v6(host)] for host in (one, two)})
    one.reach(two)
    eventually(lambda: confirmed(one, two) and confirmed(two, one))
    assert one.peer(two)["endpoint"] == v4(two)
    assert one.peer(two)["endpoints"] == [v4(two), v6(two)]
    return one, two


def test_hosts_of_one_family_and_of_both(make: Make) -> None:
    only4, only6, both = hosts = make(3)
    address_of(only4, "del", str(only4.underlay6.ip), 64)
    address_of(only6, "del", str(only6.underlay4.ip))
    notes = [
        answer["notes"]
        for answer in spread(hosts, host1=v4(only4), host2=v6(only6), host3=[v4(both), v6(both)])
    ]
    for single, used, source in (
        (only4, v4(both), only4.underlay4),
        (only6, v6(both), only6.underlay6),
    ):
        single.reach(both)
        assert both.ping(single.inner4, 20) is not None
        assert single.peer(both)["endpoint"] == used
        assert both.peer(single)["endpoints"] == [both.peer(single)["endpoint"]]
        assert single.status()["sources"] == [str(source.ip)]
    assert notes == [
        ["the interface has no IPv6 address to send from, which host2 would need"],
        ["the interface has no IPv4 address to send from, which host1 would need"],
        [],
    ]
    for single, other, family in ((only4, only6, 6), (only6, only4, 4)):
        assert single.ping(other.inner4) is None
        (cause,) = {
            found["cause"].partition(": ")[2]
            for found in single.inside(verify.run, single.config, 4, 1)["findings"]
        }
        assert cause == f"IPv{family} would be needed, of which eth0 has no address"
    assert both.inside(verify.run, both.config, 4, 20)["findings"] == []


def test_an_endpoint_goes_dark_and_comes_back(make: Make, switch: Switch) -> None:
    one, two = dual(make)
    darken(switch, str(two.underlay4.ip))
    reaches(one, two, v6(two))
    # The other side sends back by the same way, or there had been no answer.
    assert two.peer(one)["endpoint"] == v6(one)
    assert f"peer moved peer={two.name} endpoint={v6(two)}" in one.log

    # The first is well again: nothing changes by itself, but with an exchange at leisure.
    lighten(switch)
    association = one.index(two)
    assert all(one.ping(two.inner4, 5) is not None for _ in range(5))
    assert one.peer(two)["endpoint"] == v6(two)
    assert one.index(two) == association
    one.ask("rotate", exchange=True)
    reaches(one, two, v4(two))
    eventually(lambda: two.peer(one)["endpoint"] == v4(one))

    # And when the second is the one in use, and fails, it is the first one's turn.
    darken(switch, str(two.underlay4.ip))
    reaches(one, two, v6(two))
    lighten(switch)
    address_of(two, "del", str(two.underlay6.ip), 64)
    reaches(one, two, v4(two))


def test_a_family_is_lost(make: Make) -> None:
    """The host that lost it has its peers know at once."""
    one, two = dual(make)
    address_of(two, "del", str(two.underlay4.ip))

    def moved() -> bool:
        """both have moved, though nothing was sent"""
        used = one.peer(two)["endpoint"], two.peer(one)["endpoint"]
        return used == (v6(two), v6(one))

    eventually(moved)
    assert "reason=addresses" in two.log
    one.reach(two)
    two.reach(one)

    # It comes back: nothing moves, until somebody asks.
    address_of(two, "add", str(two.underlay4.ip))
    one.reach(two)
    assert one.peer(two)["endpoint"] == v6(two)
    one.ask("rotate", exchange=True)
    reaches(one, two, v4(two))


def test_a_second_address_of_one_family(make: Make) -> None:
    """A host receives at one of them at a time; the other takes its place when it goes."""
    one, two = make(2)
    second = f"192.0.2.102:{PORT}"
    address_of(two, "add", "192.0.2.102")
    spread([one, two], host1=v4(one), host2=[v4(two), second])
    one.reach(two)
    assert one.peer(two)["endpoint"] == v4(two)
    address_of(two, "del", str(two.underlay4.ip))
    reaches(one, two, second)
    assert two.status()["sources"][0] == "192.0.2.102"
    # The first comes back: what works is kept, also by a play.
    address_of(two, "add", str(two.underlay4.ip))
    (answer, _) = spread([one, two], host1=v4(one), host2=[v4(two), second])
    assert answer["changed"] is False
    one.reach(two)
    assert one.peer(two)["endpoint"] == second
    assert two.status()["sources"][0] == "192.0.2.102"


def test_another_order_changes_nothing_on_a_well_association(make: Make) -> None:
    one, two = dual(make)
    association = one.index(two)
    answers = spread([one, two], host1=[v6(one), v4(one)], host2=[v6(two), v4(two)])
    assert [answer["changed"] for answer in answers] == [False, False]
    assert one.peer(two)["endpoints"] == [v6(two), v4(two)]
    assert one.ping(two.inner4, 5) is not None
    assert one.peer(two)["endpoint"] == v4(two)
    assert one.index(two) == association
    one.ask("rotate", exchange=True)
    reaches(one, two, v6(two))


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_the_choice_outlives_the_daemon(make: Make, switch: Switch, how: str) -> None:
    one, two = dual(make)
    darken(switch, str(two.underlay4.ip))
    reaches(one, two, v6(two))
    one.kill() if how == "kill" else one.stop()
    one.start()
    assert one.ping(two.inner4, 5) is not None
    assert one.peer(two)["endpoint"] == v6(two)


def test_endpoints_come_and_go(make: Make) -> None:
    one, two = dual(make)
    association = one.index(two)
    (answer, _) = spread([one, two], host1=[v4(one), v6(one)], host2=v6(two))
    assert answer["updated"] == [two.name]
    one.reach(two)
    assert one.peer(two)["endpoint"] == v6(two)
    (answer, _) = spread([one, two], host1=[v4(one), v6(one)], host2=[v6(two), v4(two)])
    assert answer["updated"] == [two.name]
    assert f"endpoint {v6(two)} or {two.underlay4.ip}" in answer["diff"]["after"]
    one.reach(two)
    assert one.index(two) == association


def test_a_package_that_is_newer_than_the_files(make: Make) -> None:
    """An upgrade was cut short, and the host has rebooted: it comes up with what it finds."""
    one, two = make(2)
    one.stop()
    settings = json.loads(one.paths.config.read_text())
    for newer in ("kernel_derivation", "roaming"):
        del settings[newer]
    one.paths.config.write_text(json.dumps(settings))
    one.forget()
    one.apply()
    one.start()
    one.reach(two)
    assert one.status()["kernel_derivation"] is True


def test_settings_and_roster_disagree_about_roaming(make: Make) -> None:
    one, _ = make(2)
    assert "settings disagree" not in one.log
    one.change(roaming=True)
    one.ask("reload")
    assert "settings disagree" in one.log
    assert "its peers do not follow" in one.log
    found = one.inside(doctor.examine, one.paths)["findings"]
    (cause,) = {each["cause"] for each in found if each["check"] == "configuration"}
    assert "its peers do not follow" in cause
