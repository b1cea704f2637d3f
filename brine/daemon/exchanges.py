# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchanges with peers: when to begin one, what to answer, when to give up.

    we initiate on        a packet that found no box; a current association old enough to be
                          renewed; data sent and nothing authenticated for 15 s; data of an index
                          nobody knows, from a peer's address; an authentic INITIATION below the
                          floor; `brine rotate --exchange`
    INITIATION repeated   after 5 s and jitter, each time a fresh one, for 90 s; endpoints.py
                          says where to
    then                  held packets are dropped; the next packet begins anew

No socket and no map is touched here but through what is passed in.
"""

from __future__ import annotations

import random
from typing import Any

from brine import messages
from brine.daemon import endpoints
from brine.daemon.admission import COOKIE_LIFE, Admission, Admit
from brine.daemon.associations import Associations, NoSlot
from brine.daemon.awaited import Awaited
from brine.daemon.hold import HoldQueue
from brine.daemon.indices import Indices
from brine.daemon.journal import Log
from brine.daemon.peers import Attempt, Living, Peer, PeerTable
from brine.daemon.timers import SECOND, Timers
from brine.daemon.timestamps import Floors, OwnTimestamps, Verdict
from brine.daemon.ways import Ways
from brine.exchange import Credential, Established, Initiator, Refused, Responder
from brine.layout import Layout
from brine.records import ControlError
from brine.roster import Endpoint

RETRY = 5 * SECOND
JITTER = SECOND // 2
GIVE_UP = 90 * SECOND
PROMPT_INTERVAL = 5 * SECOND  #: what strangers can cause, at most this often
SPACING = SECOND  #: between two INITIATIONs to a peer, whatever asks for them
ALIVE = 15 * SECOND  #: an association that authenticated a packet that recently works
SETTLE = 2 * SECOND  #: packets punted before a publication arrive that much later at most
REASONS = 64  #: told apart when counting what was refused
PROOFS = (1, 2, 4)  #: s between keepalives that ask for confirmation, then 5 each


class Exchanges:
    """Both sides of every exchange of this host."""

    def __init__(
        self,
        layout: Layout,
        credential: Credential,
        table: PeerTable,
        timers: Timers,
        indices: Indices,
        own_timestamps: OwnTimestamps,
        floors: Floors,
        hold: HoldQueue,
        ways: Ways,
        log: Log,
    ) -> None:
        self._layout = layout
        self._table = table
        self._timers = timers
        self._indices = indices
        self._own_timestamps = own_timestamps
        self.floors = floors
        self.hold = hold
        self._ways = ways
        self._log = log
        self.admission = Admission(timers.now, ways.gate.publish_cookie_secret)
        self._awaited = Awaited(ways.gate)
        self.refused: dict[str, int] = {}  #: reason -> messages
        self.use(credential)
        self.associations: Associations  # set by the owner: each needs the other

    def use(self, credential: Credential, *others: Credential) -> None:
        """The identity and mesh secret of exchanges that we begin from now on, and others that
        we answer to as well."""
        self._credentials = (credential, *others)
        self._responder = Responder(
            self._layout, self._credentials, self._table.by_identity.__contains__
        )
        self._ways.gate.accept_mac1([one.mac1_key for one in self._credentials])

    # What makes us initiate

    def punted(self, peer: Peer, packet: bytes) -> None:
        """A packet for `peer` found no box: it waits for one."""
        now = self._timers.now()
        current = peer.current
        if current is not None and now < current.send_not_after and now - peer.published < SETTLE:
            self._ways.packet(packet)  # it was under way when the box came
            return
        self.hold.add(peer.number, packet)
        pending = peer.pending()
        if pending is None or now - pending.created >= RETRY:
            self.initiate(peer, "traffic")
        elif pending.prove is None:  # the peer's first packet is on its way
            pending.prove = self._timers.at(pending.created + RETRY, lambda: self._still_held(peer))

    def _still_held(self, peer: Peer) -> None:
        """The peer's own exchange came to nothing, and packets wait for one."""
        if self.hold.count(peer.number):
            self.initiate(peer, "traffic")

    def initiate(self, peer: Peer, reason: str, *, at_ease: bool = False) -> None:
        """Begin an exchange, unless one is under way. `at_ease`: packets flow meanwhile."""
        if peer.attempt is not None:
            return
        now, current = self._timers.now(), peer.current
        doubted = current is not None and not current.confirmed and now - current.created >= ALIVE
        endpoint = endpoints.first(peer, at_ease=at_ease, doubted=doubted)
        if endpoint is None:
            self._log.debug("no endpoint", peer=peer.name, reason=reason)
            self.hold.take(peer.number)
            return
        peer.attempt = Attempt(reason=reason, started=now, endpoint=endpoint)
        peer.unanswered = None
        peer.ignored = now
        self._log.debug("exchange started", peer=peer.name, key_id=peer.key_id, reason=reason)
        if now - peer.initiated >= SPACING:
            self._send_initiation(peer)
        else:
            self._again(peer, peer.initiated + SPACING)

    def prompted(self, peer: Peer, reason: str) -> None:
        """Somebody, perhaps the peer, gives cause for an exchange."""
        now = self._timers.now()
        if now - peer.prompted >= PROMPT_INTERVAL:
            peer.prompted = now
            self.initiate(peer, reason)

    def unknown_index(self, peer: Peer) -> None:
        """Data of an index that we do not know came from the peer's address."""
        received = self.associations.state(peer).last_received
        if not peer.living or self._timers.now() - received >= ALIVE:
            self.prompted(peer, "data of an unknown index")

    def _send_initiation(self, peer: Peer) -> None:
        attempt = peer.attempt
        if attempt is None:
            return
        now = self._timers.now()
        self._forget_initiation(attempt)
        if now - attempt.started >= GIVE_UP or not endpoints.known(peer):
            self._give_up(peer, "no answer" if attempt.left else "no address or route to ask by")
            return
        cookie = None
        if peer.cookie is not None and now < peer.cookie[1]:
            cookie = peer.cookie[0]
        try:
            stamp = self._own_timestamps.next()
        except OSError as error:
            self._log.error("no timestamp", cause=error.strerror)
            self._again(peer, now + RETRY)
            return
        index = self._indices.allot()
        # What each side uses first; then the others, for a host that a rotation has not reached.
        ways = [(own, theirs) for own in self._credentials for theirs in peer.targets]
        own, theirs = ways[attempt.tries % len(ways)]
        attempt.tries += 1
        try:
            initiator = Initiator(self._layout, own.private, theirs, own.psk, index, stamp, cookie)
        except ValueError as error:  # a public key of low order
            self._log.error("no exchange is possible", peer=peer.name, cause=error)
            self._indices.release(index)
            self._give_up(peer, "no exchange is possible")
            return
        attempt.initiator, attempt.hastened = initiator, False
        self._awaited.add(index, peer)
        peer.initiated = now
        endpoints.ask(peer, attempt, lambda to: self._ways.send(initiator.message, to), len(ways))
        self._again(peer, now + RETRY + random.randrange(JITTER))

    def _again(self, peer: Peer, when: int) -> None:
        assert peer.attempt is not None
        if peer.attempt.timer is not None:
            peer.attempt.timer.cancel()
        peer.attempt.timer = self._timers.at(when, lambda: self._send_initiation(peer))

    def _give_up(self, peer: Peer, cause: str) -> None:
        self.abandon(peer)
        dropped = len(self.hold.take(peer.number))
        peer.ignored = self._timers.now()
        tried = ", ".join(map(str, endpoints.known(peer)))
        self._log.warning(
            "exchange given up", peer=peer.name, cause=cause, endpoints=tried, dropped=dropped
        )

    def abandon(self, peer: Peer) -> None:
        """Stop waiting for the answer to what we began, if we did."""
        attempt, peer.attempt = peer.attempt, None
        if attempt is not None:
            self._forget_initiation(attempt)
            if attempt.timer is not None:
                attempt.timer.cancel()

    def leave(self, peer: Peer) -> None:
        """Drop all that is under way with a peer."""
        self.abandon(peer)
        self.hold.take(peer.number)
        peer.cookie = None

    def report(self) -> dict[str, Any]:
        """What is under way, for operators."""
        return {
            "exchanges": {
                peer.name: peer.attempt.reason for peer in self._table if peer.attempt is not None
            },
            "held_bytes": self.hold.bytes,
            "held_dropped": self.hold.dropped,
            "refused": self.refused,
            "cookies": self.admission.cookies,
            "ignored": self.admission.ignored,
        }

    def _forget_initiation(self, attempt: Attempt) -> None:
        if attempt.initiator is not None:
            index = attempt.initiator.sender_index
            attempt.initiator = None
            self._awaited.remove(index)
            self._indices.release(index)

    # What arrives

    def received(self, data: bytes, source: Endpoint) -> None:
        """A message of the exchange, from anybody. What is refused has no effect."""
        try:
            kind = messages.kind(self._layout, data)
            if kind == messages.INITIATION:
                self._initiation(data, source)
            elif kind == messages.RESPONSE:
                self._response(data, source)
            else:
                self._cookie(data)
        except Refused as error:
            reason = error.reason if len(self.refused) < REASONS else "other reasons"
            self.refused[reason] = self.refused.get(reason, 0) + 1
            self._log.debug("refused", reason=error.reason, source=source)
        except (NoSlot, ControlError) as error:
            self._log.error("association not installed", cause=str(error) or "the maps are full")

    def _initiation(self, data: bytes, source: Endpoint) -> None:
        self._responder.check_mac1(data)
        admit = self.admission.judge(
            source,
            bool(self._table.at(source.address)),
            lambda cookie: self._responder.check_mac2(data, cookie),
        )
        if admit is Admit.COOKIE:
            reply = self._responder.cookie_reply(data, self.admission.cookie(source))
            self._ways.send(reply, source)
        if admit is not Admit.ANSWER:
            return
        opened = self._responder.open_initiation(data)
        peer = self._table.by_identity[opened.identity]
        verdict = self.floors.judge(opened.identity, opened.timestamp)
        if verdict is Verdict.BELOW:
            self.prompted(peer, "an initiation below the floor")
        if verdict is not Verdict.FRESH:
            raise Refused(f"a timestamp {verdict.value}")
        peer.used = opened.identity
        self._cross(peer, opened.identity)
        index = self._indices.allot()
        try:
            message, established = self._responder.respond(opened, index)
            self.floors.hold(opened.identity, opened.timestamp)
            living = self.associations.install(
                peer, established, timestamp=opened.timestamp, source=source
            )
        except BaseException:
            self._indices.release(index)
            raise
        if peer.current is None:
            # It must be able to get the answer to its first packet.
            self._move(peer, endpoints.heard(peer, source))
        self._ways.send(message, source)
        self._log.debug("initiation answered", peer=peer.name, association=living.number)

    def _cross(self, peer: Peer, identity: bytes) -> None:
        """The peer began an exchange while ours is under way: that of the smaller identity
        goes on, so that one association comes of it and both sides agree which.

        :raises Refused: if it is ours. A second one is answered nevertheless: perhaps ours
            does not arrive at all.
        """
        attempt = peer.attempt
        if attempt is None or attempt.initiator is None:
            return
        if identity < attempt.initiator.own_identity:  # both sides compare what was sent
            self.abandon(peer)
        elif not attempt.crossed:
            attempt.crossed = True
            raise Refused("an INITIATION that crossed ours")

    def _response(self, data: bytes, source: Endpoint) -> None:
        receiver = messages.parse(self._layout, messages.RESPONSE, data).receiver
        peer = self._awaited.peer(receiver)
        attempt = peer.attempt
        assert attempt is not None
        assert attempt.initiator is not None
        established = attempt.initiator.consume(data)
        # The index goes on to name the association.
        self._awaited.remove(receiver)
        attempt.initiator = None
        self.abandon(peer)
        self._move(peer, source if peer.roaming else attempt.endpoint)
        self._established(peer, established, attempt)

    def _established(self, peer: Peer, established: Established, attempt: Attempt) -> None:
        try:
            living = self.associations.install(peer, established)
        except BaseException:
            self._indices.release(established.local_index)
            raise
        self._log.info(
            "association established",
            peer=peer.name,
            key_id=peer.key_id,
            association=living.number,
            reason=attempt.reason,
        )
        if not self._release(peer):
            self._ways.keepalive(peer.number)
        self._prove(peer, living)

    def _cookie(self, data: bytes) -> None:
        receiver = messages.parse(self._layout, messages.COOKIE, data).receiver
        peer = self._awaited.peer(receiver)
        attempt = peer.attempt
        assert attempt is not None
        assert attempt.initiator is not None
        cookie = attempt.initiator.consume_cookie(data)
        now = self._timers.now()
        peer.cookie = (cookie, now + COOKIE_LIFE)
        if not attempt.hastened:  # one more INITIATION per COOKIE, once per INITIATION
            attempt.hastened = True
            self._again(peer, now + SPACING + random.randrange(SECOND))

    # What follows

    def confirmed(self, peer: Peer, living: Living) -> None:
        """The data path opened the first packet under `living`."""
        if living.timestamp is not None:
            self.floors.confirm(living.theirs or peer.identity, living.timestamp)
        attempt = peer.attempt
        if attempt is not None and attempt.started <= living.created:
            self.abandon(peer)
        if living.source is not None:
            self._move(peer, endpoints.heard(peer, living.source))
        self._log.info(
            "association confirmed",
            peer=peer.name,
            key_id=peer.key_id,
            association=living.number,
            initiated=living.initiated,
        )
        if not self._release(peer) and not living.initiated:
            self._ways.keepalive(peer.number)  # the initiator waits for an answer

    def _release(self, peer: Peer) -> int:
        """Have the held packets sealed. How many there were."""
        packets = self.hold.take(peer.number)
        for packet in packets:
            self._ways.packet(packet)
        return len(packets)

    def _prove(self, peer: Peer, living: Living) -> None:
        """Ask for a sign of the responder until there is one."""
        delay = PROOFS[living.proofs] if living.proofs < len(PROOFS) else 5
        living.proofs += 1

        def again() -> None:
            if living.confirmed or living is not peer.current:
                return
            if self._timers.now() - living.created < ALIVE:
                self._ways.keepalive(peer.number)
            elif peer.attempt is None and self._wanted(peer):
                self.initiate(peer, "no answer under the new association")
            # Also once nothing is wanted: two exchanges that crossed can leave each side
            # sending under its own, which is no harm and would last until something is sent.
            self._prove(peer, living)

        living.prove = self._timers.after(delay * SECOND, again)

    def _wanted(self, peer: Peer) -> bool:
        """Whether anything but keepalives was sent lately."""
        sent = self.associations.state(peer).last_data_sent
        return bool(sent) and self._timers.now() - sent < ALIVE

    def _move(self, peer: Peer, endpoint: Endpoint | None) -> None:
        if endpoint is not None and endpoint != peer.endpoint:
            self._ways.moved(peer, endpoint)
