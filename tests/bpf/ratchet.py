# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts with one association: two loads of the object, each packet that one seals
given to the other's `open`. The oracle of every box is brine.keys."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

import nacl.bindings

from brine import keys as library
from tests.bpf import packets
from tests.bpf.host import PORT, TC_REDIRECT, XDP_REDIRECT, Box, Host, Keys, boot_ns
from tests.bpf.oracle import Secrets, oracle, subkey

SECOND = 10**9
SLOT, PEER = 2, 1
UNDERLAY = ("192.0.2.1", "198.51.100.9")
INSIDE = ("10.77.0.1", "10.77.0.2")
NAMES = ("a", "b")
MESSAGE = 14 + 28  # where it begins in a frame


@dataclass(frozen=True)
class Word:
    """struct ratchet, readable."""

    own: int
    peer: int
    send: tuple[int, int]
    flags: frozenset[str]
    instance: int

    @property
    def proved(self) -> int:
        return self.own - ("unproved" in self.flags)


class Side:
    """One of the two hosts."""

    def __init__(self, host: Host, which: int, secrets: Secrets) -> None:
        self.host, self.which, self.secrets = host, which, secrets
        self.privates = {0: secrets.first[which]}
        self.other: Side
        self._waiting: list[Any] = []  # events that the daemon has not seen yet
        host.configure(UNDERLAY[which], None)
        host.peer(PEER, (UNDERLAY[1 - which], PORT))
        host.route(f"{INSIDE[which]}/32", host.loaded.enum("route_value")["ROUTE_SELF"])
        host.route(f"{INSIDE[1 - which]}/32", PEER)

    # keys

    def public(self, generation: int) -> bytes:
        return library.public_key(self.privates[generation])

    def box(self, own: int, peer: int, *, sending: bool) -> Box:
        """The oracle's."""
        return oracle(
            self.secrets.secret, own, peer, self.privates[own], self.other.privates[peer], sending
        )

    # set-up

    def set_punt(self, punts: bool = True) -> None:
        config = self.host.read("config", "config", 0)
        flag = self.host.loaded.enum("config_flag")["CONFIG_PUNT_DERIVATION"]
        config.flags = config.flags | flag if punts else config.flags & ~flag
        self.host.write("config", 0, config)

    def renew(self, secrets: Secrets) -> None:
        """Another exchange; to be installed."""
        self.secrets = secrets
        self.privates = {0: secrets.first[self.which]}

    def install(self, *, hurry: int = 1) -> None:
        """`hurry`: how fast the host's clock runs."""
        keys = Keys(
            send=self.box(0, 0, sending=True),
            receive=self.box(0, 0, sending=False),
            secret=self.secrets.secret,
            send_header_key=self.secrets.header[self.which],
            receive_header_key=self.secrets.header[1 - self.which],
            own_private=self.privates[0],
            own_public=self.public(0),
            peer_public=self.other.public(0),
        )
        request = self.host.install_request(
            SLOT,
            PEER,
            keys,
            index=self.secrets.indices[self.which],
            remote=self.secrets.indices[1 - self.which],
            initiated=self.which == 0,
        )
        request.send_not_after = boot_ns() * hurry + 3900 * SECOND
        request.receive_not_after = boot_ns() * hurry + 3960 * SECOND
        assert self.host.control(request) == "DONE"

    # what is there

    @property
    def association(self) -> Any:
        return self.host.read("associations", "association", SLOT)

    @property
    def word(self) -> Word:
        raw = self.association.ratchet
        flags = self.host.loaded.enum("ratchet_flag")
        return Word(
            raw.own_current,
            raw.peer_current,
            (raw.send_own, raw.send_peer),
            frozenset(
                name.removeprefix("RATCHET_").lower()
                for name, bit in flags.items()
                if raw.flags & bit
            ),
            raw.instance,
        )

    def slot(self, own: int, peer: int, *, sending: bool) -> int:
        """The number of the pair's box."""
        pair = (own & 1) * 2 + (peer & 1) if sending else 4 + (peer & 1) * 2 + (own & 1)
        return SLOT * 8 + pair

    def slots(self, own: int, peer: int) -> tuple[Any, Any]:
        """The sending and the receiving box of that place."""
        return (
            self.host.read("boxes", "box", self.slot(own, peer, sending=True)),
            self.host.read("boxes", "box", self.slot(own, peer, sending=False)),
        )

    def state(self, own: int, peer: int) -> str:
        """Of the pair: "published", "claimed" or "failed", or "none"; both boxes alike."""
        send, receive = self.slots(own, peer)
        names = {v: k for k, v in self.host.loaded.enum("box_state").items()}
        name = names[receive.state].removeprefix("BOX_").lower()
        if (receive.sender_generation, receive.receiver_generation) != (peer, own):
            return "none"
        if name == "published":
            assert names[send.state] == "BOX_PUBLISHED"
            assert (send.sender_generation, send.receiver_generation) == (own, peer)
        return "none" if name == "empty" else name

    def pairs(self) -> set[tuple[int, int]]:
        """The published ones, (own, peer)."""
        found = set()
        for own in range(2):
            for peer in range(2):
                _send, receive = self.slots(own, peer)
                pair = (receive.receiver_generation, receive.sender_generation)
                if self.state(*pair) == "published":
                    found.add(pair)
        return found

    # time

    def later(self, seconds: float) -> None:
        """Let time pass for the association and its boxes: all their times move back. What
        began before the machine did begins modulo 2^64, as the programs add; what was to end
        before has ended."""
        back = int(seconds * SECOND)
        held = self.association

        def past(value: int) -> int:
            return max(0, value - back)

        for name in ("created", "own_used_at"):
            setattr(held, name, getattr(held, name) - back)
        for name in ("send_not_after", "receive_not_after", "own_rest_until", "derivations"):
            setattr(held, name, past(getattr(held, name)))
        held.peer_moved = (held.peer_moved - back) & ~0xFF | held.peer_moved & 0xFF
        for index in range(2):
            held.own_since[index] -= back
            held.peer_since[index] -= back
        self.host.write("associations", SLOT, held)
        for number in range(SLOT * 8, SLOT * 8 + 8):
            box = self.host.read("boxes", "box", number)
            box.not_after = past(box.not_after)
            self.host.write("boxes", number, box)
        self.host.zero("budgets")

    # counters

    def drawn(self) -> int:
        """Of the busiest lane of the sending pair."""
        counters = self.host.read("counters", "counters", self._sending())
        return max(int(lane.next) for lane in counters.lane)

    def draw(self, number: int) -> None:
        """Each lane of it comes to `number`."""
        counters = self.host.read("counters", "counters", self._sending())
        for lane in counters.lane:
            lane.next = number
        self.host.write("counters", self._sending(), counters)

    def _sending(self) -> int:
        own, peer = self.word.send
        return SLOT * 4 + (own & 1) * 2 + (peer & 1)

    # control

    def rotate(self, generation: int | None = None, private: bytes | None = None) -> str:
        """A new key; by default of the next generation."""
        made = private or os.urandom(32)
        number = self.word.own + 1 if generation is None else generation
        request = self.host.request("CONTROL_ROTATE", SLOT)
        request.own_generation = number & 0xFF
        request.own_private[:] = made
        request.own_public[:] = library.public_key(made)
        result = self.host.control(request)
        if result == "DONE":
            self.privates[number] = made
        return result

    def run(self, operation: str) -> str:
        return self.host.control(self.host.request(f"CONTROL_{operation}", SLOT))

    def derive(self) -> str:
        return self.run("DERIVE")

    def retire(self) -> str:
        return self.run("RETIRE")

    def derive_pair(
        self,
        own: int,
        peer: int,
        *,
        keyed: bool = False,
        key: bytes | None = None,
        instance: int | None = None,
    ) -> str:
        """As the daemon does on EVENT_DERIVE. `keyed`: with the peer's key, or with `key`."""
        request = self.host.request("CONTROL_DERIVE_PAIR", SLOT)
        request.own_generation, request.peer_generation = own, peer
        request.instance = self.word.instance if instance is None else instance
        if keyed:
            request.keyed = 1
            request.peer_public[:] = key or self.other.public(peer)
        return self.host.control(request)

    def wait(self) -> None:
        """What the daemon is told now it sees later."""
        self._waiting += self.host.events()

    def asked(self) -> list[str]:
        """Serve the EVENT_DERIVEs that there are, as the daemon does; the results."""
        self.wait()
        events, self._waiting = self._waiting, []
        results = []
        for kind, peer, association, data in events:
            if kind == "EVENT_DERIVE":
                assert (peer, association) == (PEER, SLOT)
                said = self.host.loaded.struct("event_derive").from_buffer_copy(data)
                results.append(
                    self.derive_pair(
                        said.own_generation,
                        said.peer_generation,
                        keyed=bool(said.keyed),
                        key=bytes(said.key),
                        instance=said.instance,
                    )
                )
        return results

    # packets

    def text(self, payload: bytes = b"text") -> bytes:
        return packets.udp_packet(INSIDE[self.which], INSIDE[1 - self.which], payload)

    def data(self, payload: bytes = b"text") -> bytes | None:
        """DATA as `seal` makes it; None if it does not."""
        return self._seal(packets.ethernet(self.text(payload)))

    def keepalive(self, flags: int = 0) -> bytes | None:
        request = packets.ipv6("fe80::1", "::", struct.pack("<II", PEER, flags), next_header=253)
        return self._seal(packets.ethernet(request))

    def announce(self) -> bytes | None:
        return self.keepalive(self.host.loaded.enum("keepalive_flag")["KEEPALIVE_ANNOUNCE"])

    def _seal(self, frame: bytes) -> bytes | None:
        run = self.host.seal(frame)
        if run.value != TC_REDIRECT:
            return None
        # bpf_redirect_neigh writes the outer packet's own header.
        ethertype = {4: packets.ETH_P_IP, 6: packets.ETH_P_IPV6}[run.data[14] >> 4]
        return packets.ethernet(run.data[14:], ethertype=ethertype)

    def take(self, frame: bytes | None) -> str:
        """Give a frame to `open`; the one reason it counted."""
        assert frame is not None
        self.host.stats()
        run = self.host.open(frame)
        (reason,) = self.host.stats()
        assert (run.value == XDP_REDIRECT) == (reason == "open_ok")
        if reason == "open_ok":
            assert run.data[14:] in {self.other.text(p) for p in (b"text", b"other")}
        return reason.removeprefix("open_")

    def forge(self, own: int, peer: int, **how: Any) -> bytes:
        """A frame as the other side would seal it, of any pair: (own, peer) are this side's.
        `keyed`: announced, with `key` and `tag` if given."""
        box = self.box(own, peer, sending=False)
        header = {
            "counter": how.pop("counter", 0),
            "lane": how.pop("lane", 15),
            "generations": (peer, own),
        }
        index = self.secrets.indices[self.which]
        text = how.pop("text", b"")
        if how.pop("keyed", False):
            key = how.pop("key", None) or self.other.public(peer)
            head = struct.pack("<BBBBIQ", 5, peer, own, header["lane"], index, header["counter"])
            tag = library.header_tag(self.secrets.header[1 - self.which], head, key)
            message = packets.data_keyed(
                box.key,
                box.nonce,
                index,
                text,
                announced=key,
                header_tag=how.pop("tag", None) or tag,
                **header,
            )
        else:
            message = packets.data(box.key, box.nonce, index, text, **header)
        assert not how
        source, target = UNDERLAY[1 - self.which], UNDERLAY[self.which]
        return packets.ethernet(packets.udp_packet(source, target, message, ports=(50000, PORT)))

    def opens(self, frame: bytes) -> bytes:
        """What NaCl opens of a frame that this side sealed, under the oracle's box."""
        message = frame[MESSAGE:]
        kind, own, peer, lane, index, counter = struct.unpack_from("<BBBBIQ", message)
        assert index == self.secrets.indices[1 - self.which]
        box = self.box(own, peer, sending=True)
        at = 16
        if kind == 5:
            key, tag = message[16:48], message[48:56]
            assert key == self.public(own)
            assert tag == library.header_tag(self.secrets.header[self.which], message[:16], key)
            at = 56
        nonce = library.box_nonce(box.nonce, lane, counter)
        return nacl.bindings.crypto_secretbox_open(message[at:], nonce, box.key)

    def check(self) -> None:
        """Every published box is the oracle's, and no claim was left behind."""
        states = self.host.loaded.enum("box_state")
        for own in range(2):
            for peer in range(2):
                boxes = self.slots(own, peer)
                assert states["BOX_CLAIMED"] not in {box.state for box in boxes}
                if boxes[1].state != states["BOX_PUBLISHED"]:
                    assert not any(any(box.subkey) for box in boxes)
        for own, peer in self.pairs():
            for box, sending in zip(self.slots(own, peer), (True, False), strict=True):
                made = self.box(own, peer, sending=sending)
                assert bytes(box.subkey) == subkey(made.key, made.nonce)
                assert box.peer == PEER
                assert box.index == self.secrets.indices[1 - self.which if sending else self.which]
            assert bytes(self.slots(own, peer)[1].peer_public) == self.other.public(peer)


def generations(frame: bytes) -> tuple[int, int, int]:
    """Type, and the sender's and the receiver's generation."""
    return frame[MESSAGE], frame[MESSAGE + 1], frame[MESSAGE + 2]


class Two:
    """Both sides, their association confirmed."""

    def __init__(self, one: Host, two: Host, *, hurry: int = 1) -> None:
        secrets = Secrets()
        self.hurry = hurry
        self.a, self.b = Side(one, 0, secrets), Side(two, 1, secrets)
        self.a.other, self.b.other = self.b, self.a
        self._begin()

    def _begin(self) -> None:
        for side in self.sides:
            side.install(hurry=self.hurry)
        assert self.a.host.publish(SLOT) == "DONE"
        assert self.b.take(self.a.data()) == "ok"
        assert self.a.take(self.b.data()) == "ok"
        if self.hurry == 1:
            self.later(20)
        for side in self.sides:
            side.host.events()

    def renew(self) -> None:
        """Another exchange in the same place."""
        secrets = Secrets()
        for side in self.sides:
            assert side.host.erase(SLOT) == "DONE"
        self.later(11)
        for side in self.sides:
            side.renew(secrets)
        self._begin()

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.a, self.b

    def later(self, seconds: float) -> None:
        for side in self.sides:
            side.later(seconds)

    def announced(self, side: Side) -> None:
        """`side` has rotated: its key goes over, is adopted, answered and proved."""
        assert side.derive() == "DONE"
        assert side.other.take(side.announce()) == "keepalive"
        assert side.take(side.other.keepalive()) == "keepalive"

    def rotated(self, side: Side) -> None:
        """One rotation from its start to the end of what it leaves behind."""
        assert side.rotate() == "DONE"
        self.announced(side)
        for one in self.sides:
            assert one.other.take(one.data()) == "ok"
        self.later(11)
        for one in self.sides:
            assert one.retire() == "DONE"
        self.later(11)
