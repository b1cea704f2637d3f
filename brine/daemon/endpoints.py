# SPDX-License-Identifier: GPL-3.0-or-later
"""At which of its endpoints a peer is asked for an exchange, and reached afterwards.

    an exchange begins at      the preferred one, if packets flow meanwhile (age, identity, an
                               operator's wish): if that is dark, nobody waits for it
                               the one in use, if something waits for it
                               the one after that, if exchanges pass there and data does not
    it goes on                 to the next, round the list, after TRIES INITIATIONs; at once where
                               none leaves this host, for want of an address or a route
    data goes                  where the exchange came about, on both sides, and stays there

So data never goes to an endpoint that nobody has just answered at, and moves by exchanges only.
Where a peer may be reached is the roster's to say; of one that roams, its packets' as well.
"""

from __future__ import annotations

from collections.abc import Callable

from brine.daemon.peers import Attempt, Peer
from brine.roster import Endpoint

TRIES = 2  #: a single INITIATION may be lost on the way to an endpoint that is well


def known(peer: Peer) -> tuple[Endpoint, ...]:
    """Wherever the peer may be: where one that roams was last, and what the roster names."""
    if peer.endpoint is None or peer.endpoint in peer.endpoints:
        return peer.endpoints
    return (peer.endpoint, *peer.endpoints)


def first(peer: Peer, *, at_ease: bool, doubted: bool) -> Endpoint | None:
    """Where an exchange begins; None: nobody knows where the peer is.

    :param at_ease: packets flow meanwhile.
    :param doubted: the one in use answered an exchange, but nothing came back after it.
    """
    if peer.endpoint is None or (at_ease and not peer.roaming):
        return next(iter(known(peer)), None)
    return following(peer, peer.endpoint) if doubted else peer.endpoint


def following(peer: Peer, endpoint: Endpoint | None) -> Endpoint:
    """The one after it, round the list; the first, if it is no longer there."""
    places = known(peer)
    if endpoint not in places:
        return places[0]
    return places[(places.index(endpoint) + 1) % len(places)]


def ask(peer: Peer, attempt: Attempt, send: Callable[[Endpoint], bool], tries: int) -> None:
    """Send an INITIATION to the endpoint whose turn it is, or the next that it leaves for.

    :param send: whether it left.
    :param tries: at each endpoint at least: while an identity is rotated, as many as it takes
        to try them all.
    """
    places = known(peer)
    if attempt.endpoint not in places or attempt.asked >= max(TRIES, tries):
        _go_on(peer, attempt)
    for _place in places:
        assert attempt.endpoint is not None
        if send(attempt.endpoint):
            attempt.asked += 1
            attempt.left = True
            return
        _go_on(peer, attempt)


def _go_on(peer: Peer, attempt: Attempt) -> None:
    attempt.endpoint, attempt.asked = following(peer, attempt.endpoint), 0


def heard(peer: Peer, source: Endpoint) -> Endpoint | None:
    """Where to reach a peer whose exchange came from `source`: there, if it roams; else at
    that of its endpoints with this address, since the way there works, both ways. From
    elsewhere nothing follows."""
    if peer.roaming or source in peer.endpoints:
        return source
    if peer.endpoint is not None and peer.endpoint.address == source.address:
        return peer.endpoint
    alike = (one for one in peer.endpoints if one.address == source.address)
    return next(alike, peer.endpoint)
