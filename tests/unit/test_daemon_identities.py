# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotating identities under traffic, between simulated hosts: nothing is lost."""

from __future__ import annotations

import itertools

import pytest

from brine import keys
from brine.daemon.identities import Identities
from brine.daemon.peers import Living, Peer
from brine.daemon.settings import Members
from brine.exchange import Credential
from brine.layout import Layout
from brine.roster import Entry
from tests.unit.simulated import Host, packet, pair

TO = {"one": 1, "two": 2}  # what each calls the other


class Rotating:
    """Two hosts and the roster; `tell` is what the role peers does."""

    def __init__(self, layout: Layout) -> None:
        self.world, self.one, self.two = pair(layout)
        self.sent: dict[str, list[bytes]] = {"one": [], "two": []}
        self._numbers = itertools.count()
        self.keys: dict[str, list[Credential]] = {}
        self.identities: dict[str, Identities] = {}
        for host in (self.one, self.two):
            self.keys[host.name] = [host.credential]
            self.identities[host.name] = Identities(
                (host.credential,),
                Members(),
                host.table,
                host.timers,
                host.associations,
                host.exchanges,
            )
            self._follow(host)
        self.tell()
        self.talk(2)

    def _follow(self, host: Host) -> None:
        """What the service does when an association is confirmed."""

        def confirmed(peer: Peer, living: Living) -> None:
            host.exchanges.confirmed(peer, living)
            self.identities[host.name].look_later(peer)

        host.associations._confirmed = confirmed

    def hosts(self) -> list[tuple[Host, Host]]:
        return [(self.one, self.two), (self.two, self.one)]

    def stage(self, host: Host) -> None:
        self.keys[host.name].append(Credential(keys.generate_private(), host.credential.psk))
        self._reload(host)

    def flip(self, host: Host) -> None:
        self.keys[host.name].reverse()
        self._reload(host)

    def retire(self, host: Host) -> None:
        del self.keys[host.name][1]
        self._reload(host)

    def tell(self, *to: Host) -> None:
        """Bring the roster to the hosts, or some of them."""
        for host, other in self.hosts():
            if to and host not in to:
                continue
            first, *rest = (one.public for one in self.keys[other.name])
            entry = Entry(
                other.name, first, (other.endpoint,), (), (), False, next(iter(rest), None)
            )
            identities = self.identities[host.name]
            identities.change(identities.credentials, Members(dict.fromkeys((first, *rest), entry)))
            peer = host.table.by_number[TO[host.name]]
            assert peer.identity in entry.public_keys  # else its slot would be cleared
            identities.name(peer, first)
            identities.settle()

    def _reload(self, host: Host) -> None:
        identities = self.identities[host.name]
        identities.change(tuple(self.keys[host.name]), identities.members)
        identities.settle()

    def talk(self, seconds: float) -> None:
        """A packet each way every 10 ms."""
        for _ in range(round(seconds * 100)):
            for host, other in self.hosts():
                data = packet(TO[host.name], next(self._numbers).to_bytes(4, "big"))
                self.sent[host.name].append(data)
                host.send(other, data)
            self.world.run(0.01)

    def lost(self) -> int:
        self.world.run(1)
        return sum(
            len(set(self.sent[host.name]) - set(other.received)) for host, other in self.hosts()
        )

    def current(self, host: Host) -> Living:
        found = host.table.by_number[TO[host.name]].current
        assert found is not None
        return found


@pytest.fixture
def mesh(layout: Layout) -> Rotating:
    return Rotating(layout)


def made_with_current(mesh: Rotating) -> bool:
    return all(
        (living.own, living.theirs)
        == (mesh.keys[host.name][0].public, mesh.keys[other.name][0].public)
        for host, other in mesh.hosts()
        for living in [mesh.current(host)]
    )


def test_both_rotate_and_nothing_is_lost(mesh: Rotating) -> None:
    before = mesh.current(mesh.one).local_index
    for host in (mesh.one, mesh.two):
        mesh.stage(host)
    mesh.tell()
    mesh.talk(3)
    assert mesh.current(mesh.one).local_index == before  # staging begins no exchange
    for host in (mesh.one, mesh.two):
        mesh.flip(host)
        mesh.talk(15)
        assert mesh.current(host).own == mesh.keys[host.name][0].public
    mesh.tell()
    mesh.talk(15)
    assert made_with_current(mesh)
    exchanges = mesh.one.sent("initiation") + mesh.two.sent("initiation")
    for host in (mesh.one, mesh.two):
        mesh.retire(host)
        mesh.talk(5)
    mesh.tell()
    mesh.talk(45)
    assert mesh.one.sent("initiation") + mesh.two.sent("initiation") == exchanges
    assert mesh.lost() == 0
    assert all(len(set(host.received)) == len(host.received) for host, _ in mesh.hosts())


def test_both_flip_at_once(mesh: Rotating) -> None:
    """Exchanges that cross under new identities end in one association for both."""
    for host in (mesh.one, mesh.two):
        mesh.stage(host)
    mesh.tell()
    for host in (mesh.one, mesh.two):
        mesh.flip(host)
    before = mesh.one.sent("initiation") + mesh.two.sent("initiation")
    mesh.talk(40)
    assert mesh.one.sent("initiation") + mesh.two.sent("initiation") - before <= 3
    assert made_with_current(mesh)  # before the roster says which identities are in use
    mesh.tell()
    mesh.talk(20)
    for host in (mesh.one, mesh.two):
        assert mesh.current(host).own == mesh.keys[host.name][0].public
        assert len(host.maps.associations()) == 1
    assert mesh.lost() == 0


def test_a_flip_is_taken_back(mesh: Rotating) -> None:
    mesh.stage(mesh.one)
    mesh.tell()
    mesh.flip(mesh.one)
    mesh.talk(3)
    mesh.flip(mesh.one)  # back
    mesh.talk(15)
    assert mesh.current(mesh.one).own == mesh.one.credential.public
    mesh.retire(mesh.one)  # `unstage`
    mesh.tell()
    mesh.talk(40)
    assert mesh.lost() == 0


def test_what_the_retired_identity_made_ends(mesh: Rotating) -> None:
    """No exchange came about after the flip: what the former identity made is replaced when it
    is retired, and does not outlive that by more than 30 s even if it cannot be."""
    mesh.stage(mesh.one)
    mesh.tell()
    former = mesh.current(mesh.one).own
    mesh.world.passes = lambda _a, _b, message: not isinstance(message, bytes)
    mesh.flip(mesh.one)
    mesh.talk(10)
    assert mesh.current(mesh.one).own == former
    mesh.tell()
    mesh.retire(mesh.one)
    mesh.tell()
    mesh.talk(10)
    assert mesh.lost() == 0
    mesh.talk(25)
    for host, _ in mesh.hosts():
        assert all(
            former not in (living.own, living.theirs)
            for living in host.table.by_number[TO[host.name]].living
        )
        assert host.maps.associations() == []
    mesh.world.passes = lambda *_: True
    mesh.talk(10)
    assert made_with_current(mesh)


def test_retiring_replaces_before_it_ends(mesh: Rotating) -> None:
    mesh.stage(mesh.one)
    mesh.tell()
    mesh.world.passes = lambda _a, _b, message: not isinstance(message, bytes)
    mesh.flip(mesh.one)
    mesh.talk(2)
    mesh.tell()
    mesh.world.passes = lambda *_: True
    mesh.retire(mesh.one)
    mesh.tell()
    mesh.talk(60)
    assert made_with_current(mesh)
    assert mesh.lost() == 0


def test_what_is_revoked_is_replaced_where_the_peer_is_reached(
    mesh: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is near: an exchange that begins at another endpoint may be too late."""
    begun: list[bool] = []

    def note(_peer: Peer, _reason: str, *, at_ease: bool = False) -> None:
        begun.append(at_ease)

    monkeypatch.setattr(mesh.one.exchanges, "initiate", note)
    mesh.stage(mesh.one)
    mesh.tell()
    mesh.flip(mesh.one)
    mesh.world.run(1)
    assert begun == [True]
    mesh.retire(mesh.one)
    mesh.world.run(1)
    assert begun == [True, False]


def test_a_host_that_the_roster_has_not_reached_is_still_talked_to(mesh: Rotating) -> None:
    """`two` knows nothing of the rotation: with the former identity there is still a way."""
    mesh.stage(mesh.one)
    mesh.tell(mesh.one)
    mesh.flip(mesh.one)
    mesh.talk(30)
    assert mesh.lost() == 0
    mesh.one.associations.erase_all(mesh.one.table, "test")
    mesh.two.associations.erase_all(mesh.two.table, "test")
    mesh.one.send(mesh.two, packet(1, b"held"))
    mesh.world.run(15)
    assert mesh.two.received[-1] == packet(1, b"held")


def test_another_mesh_secret_ends_everything_at_once(mesh: Rotating) -> None:
    mesh.keys["one"] = [Credential(mesh.one.credential.private, b"\7" * 32)]
    mesh._reload(mesh.one)
    assert mesh.one.maps.associations() == []


def test_an_association_of_unknown_identity_is_replaced(mesh: Rotating) -> None:
    mesh.one.kill()
    mesh.one.start()
    identities = Identities(
        (mesh.one.credential,),
        mesh.identities["one"].members,
        mesh.one.table,
        mesh.one.timers,
        mesh.one.associations,
        mesh.one.exchanges,
    )
    mesh.identities["one"] = identities
    assert mesh.current(mesh.one).own is None
    identities.adopt(frozenset({"of other credentials"}))
    identities.settle()
    mesh.talk(40)
    assert made_with_current(mesh)
    assert mesh.lost() == 0
