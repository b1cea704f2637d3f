# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's underlay addresses come and go, and brined follows."""

from __future__ import annotations

from brine import sources
from brine.locking import locked
from brine.maps import Maps
from tests.integration.conftest import Make
from tests.integration.hosts import Host, eventually
from tests.integration.steps import address_of

FIRST, OTHER = "192.0.2.1", "192.0.2.201"


def source(host: Host) -> str:
    """What its outer IPv4 packets leave from."""
    with Maps.of(host.config) as maps:
        return str(sources.read(maps).ipv4)


def test_an_address_takes_the_place_of_one_that_went(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    address_of(one, "del", FIRST)
    address_of(one, "add", OTHER)
    eventually(lambda: source(one) == OTHER)
    assert f"source moved source4={OTHER}" in one.log
    address_of(one, "add", FIRST)
    address_of(one, "del", OTHER)
    eventually(lambda: source(one) == FIRST)
    one.reach(two)


def test_one_that_is_still_there_is_kept(make: Make) -> None:
    one, two = make(2)
    address_of(one, "add", "192.0.2.200")
    address_of(one, "add", OTHER)
    address_of(one, "del", "192.0.2.200")
    one.reach(two)
    address_of(one, "del", FIRST)
    eventually(lambda: source(one) == OTHER)  # so the first changes were looked at too
    assert one.log.count("source moved") == 1


def test_nobody_is_disturbed_who_changes_the_data_path(make: Make) -> None:
    (one,) = make(1)
    address_of(one, "add", OTHER)
    with locked(one.paths.apply_lock):
        address_of(one, "del", FIRST)
        eventually(lambda: one.status_of_daemon()["pid"] > 0)
        assert source(one) == FIRST
        one.ask("reload")  # the daemon does not wait for the lock
        assert source(one) == FIRST
    eventually(lambda: source(one) == OTHER)
