# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that keep derivations out of reception: keys are replaced under traffic, by way of the
daemon, and no packet is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from brine import probe
from tests.integration.conftest import Make
from tests.integration.hosts import Host, eventually
from tests.integration.steps import apply
from tests.integration.test_ratchet import SECONDS, ratchet

# What becomes of announcements that are not opened: left to the daemon, sooner than a key may
# follow another, too many while the daemon is away.
ANNOUNCEMENTS = {"open_punt_pair", "open_no_box", "open_budget"}


def punted(host: Host) -> int:
    """Packets whose pair `open` left to the daemon."""
    return int(host.status()["drops"]["open_punt_pair"])


def dropped(host: Host) -> dict[str, int]:
    """What `open` dropped, keepalives apart."""
    drops = host.status()["drops"].items()
    return {reason: packets for reason, packets in drops if packets and reason.startswith("open_")}


def more(host: Host, before: dict[str, int]) -> dict[str, int]:
    """Since `before`."""
    drops = dropped(host).items()
    since = {reason: packets - before.get(reason, 0) for reason, packets in drops}
    return {reason: packets for reason, packets in since.items() if packets}


def begin(make: Make, *punting: bool) -> list[Host]:
    """Two hosts with an association, which replace their keys as often as can be."""
    hosts = make(2)
    for host, punts in zip(hosts, punting, strict=True):
        host.stop()
        apply(host, kernel_derivation=not punts)
        assert host.status()["kernel_derivation"] is not punts
        host.rekey_interval = 1
        host.start()
    one, two = hosts
    one.reach(two)
    two.reach(one)
    eventually(lambda: one.association(two) is not None)
    return hosts


def probed(
    one: Host, two: Host, seconds: float, during: Callable[[], None] | None = None
) -> dict[Host, dict[str, Any]]:
    """What became of a packet each millisecond both ways, by who was to receive it. They end
    with `during`, if there is one."""
    ways, ending = ((one, two), (two, one)), list[int]()
    with ThreadPoolExecutor(4) as pool:
        receivers = {to: pool.submit(to.probe_receive, seconds + 60, 1) for _, to in ways}
        for to in receivers:
            eventually(to.receives)
        senders = [
            pool.submit(source.inside, probe.send, [to.inner4], seconds, 1.0, probe.PORT, ending)
            for source, to in ways
        ]
        try:
            if during is not None:
                during()
                ending.append(1)
        except BaseException:
            ending.append(1)
            raise
        for sender in senders:
            sender.result()
        return {to: receiver.result()["runs"][0] for to, receiver in receivers.items()}


def check(run: dict[str, Any], drops: dict[str, int]) -> None:
    assert (run["lost"], run["duplicated"]) == (0, 0), drops
    assert drops.keys() <= ANNOUNCEMENTS


def moved(one: Host, two: Host, least: int) -> bool:
    """Both have replaced their keys that often, and each has the other's."""
    first, second = ratchet(one), ratchet(two)
    return (
        min(first.own_current, second.own_current) >= least
        and (first.peer_current, second.peer_current) == (second.own_current, first.own_current)
        and first.settled
        and second.settled
    )


@pytest.mark.parametrize("punting", [(False, True), (True, True)], ids=["one", "both"])
def test_keys_are_replaced_under_traffic(make: Make, punting: tuple[bool, bool]) -> None:
    """Both rotate at once, again and again."""
    one, two = begin(make, *punting)
    index = one.index(two)
    before = {host: dropped(host) for host in (one, two)}
    runs = probed(one, two, SECONDS)
    for host, run in runs.items():
        check(run, more(host, before[host]))
    eventually(lambda: moved(one, two, 2), 60)
    for host, punts in zip((one, two), punting, strict=True):
        # One a key of the peer's, or some more if the daemon had to wait for a processor.
        assert (punted(host) >= 2) is punts
    assert one.index(two) == index


def test_the_daemon_is_killed_while_the_peer_announces(make: Make) -> None:
    """The host adopts no key until there is another daemon; then the same association goes on.
    Meanwhile it loses nothing."""
    one, two = begin(make, False, True)
    index = one.index(two)
    two.kill()
    before = {host: dropped(host) for host in (one, two)}
    asked, generation = punted(two), ratchet(two).peer_current

    def daemon_away() -> None:
        eventually(lambda: ratchet(one).own_current > generation, 60)
        eventually(lambda: punted(two) >= asked + 2, 60)
        assert ratchet(one).unproved
        assert ratchet(two).peer_current == generation
        two.start()
        eventually(lambda: ratchet(two).peer_current == generation + 1, 60)
        eventually(lambda: not ratchet(one).unproved, 60)

    for host, run in probed(one, two, 300, daemon_away).items():
        check(run, more(host, before[host]))
    eventually(lambda: moved(one, two, 1), 60)
    assert one.index(two) == index


def test_the_setting_is_changed_back_and_forth(make: Make) -> None:
    """While packets flow and keys are replaced."""
    one, two = begin(make, False, False)
    before = {host: dropped(host) for host in (one, two)}

    def change() -> None:
        for derives in (False, True, False):
            generation = ratchet(two).peer_current
            for host in (one, two):
                assert apply(host, kernel_derivation=derives)["changed"]
                assert not apply(host)["changed"]
            eventually(lambda at=generation: ratchet(two).peer_current > at, 90)  # type: ignore[misc]

    for host, run in probed(one, two, 300, change).items():
        check(run, more(host, before[host]))
    assert punted(two) >= 2
