# SPDX-License-Identifier: GPL-3.0-or-later
"""The pinned maps: the only place that reads and writes them.

bpf/maps.h says who may write what. Associations and boxes change only through the
`control` program, one caller at a time. Nothing here returns a secret.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable, Collection
from typing import Any

from brine import keys
from brine.errors import BrineError
from brine.libbpf import Program, RingBuffer
from brine.records import (
    Association,
    ControlError,
    DeriveEvent,
    Established,
    PeerEntry,
    PeerState,
    Ratchet,
    RouteValues,
    StaleMaps,
    Traffic,
    boot_ns,
)
from brine.roster import Endpoint
from brine.tables import TableMaps, pack_number, pin_directory, unpack_endpoint

__all__ = [
    "Association",
    "ControlError",
    "DeriveEvent",
    "Established",
    "Maps",
    "PeerEntry",
    "PeerState",
    "Ratchet",
    "RouteValues",
    "StaleMaps",
    "Traffic",
    "boot_ns",
    "pin_directory",
]

_PATIENCE = 50  # times; open holds a pair for less than a millisecond


class Maps(TableMaps):
    """The maps pinned in one directory, open until :meth:`close`."""

    def clear_peers(self, numbers: Collection[int]) -> None:
        """Empty these slots, erase the peers' associations and what was counted of them."""
        # Identities first: from here on no exchange can install for these slots.
        self._zero("peers", numbers)
        for association in self.associations():
            if association.peer in numbers:
                self.erase(association.number)
        for name in ("peer_states", "limits", "traffic"):
            self._zero(name, numbers)

    # associations

    def associations(self) -> list[Association]:
        """The living ones."""
        return [
            association
            for number in range(self._map("associations").max_entries)
            if (association := self.association(number)) is not None
        ]

    def associations_in_use(self) -> dict[int, tuple[int, int]]:
        """Their numbers, the peers' and the local indices alone: also of maps whose layout is
        another one's."""
        free = self.layout.enum("association_state")["ASSOCIATION_FREE"]
        found = {}
        for number in range(self._map("associations").max_entries):
            raw: Any = self._association(number)
            if raw.state != free:
                found[number] = (raw.peer, raw.local_index)
        return found

    def association(self, number: int) -> Association | None:
        """One of them, or None if the slot is free."""
        raw: Any = self._association(number)
        if raw.state == self.layout.enum("association_state")["ASSOCIATION_FREE"]:
            return None
        return Association(
            number=number,
            peer=raw.peer,
            state=self._state_names[raw.state],
            local_index=raw.local_index,
            remote_index=raw.remote_index,
            created=raw.created,
            send_not_after=raw.send_not_after,
            receive_not_after=raw.receive_not_after,
            initiated=bool(raw.initiated),
            ratchet=self._ratchet(raw),
        )

    def free_association(self, peer: int) -> int:
        """A slot that may be installed into: free, and rested since it was erased.

        :raises BrineError: if there is none; associations must be erased first.
        """
        slots = self._map("associations").max_entries
        free = self.layout.enum("association_state")["ASSOCIATION_FREE"]
        rest = self.layout.enum("control_time")["CONTROL_REST_SECONDS"] * 1_000_000_000
        now = boot_ns()
        for step in range(slots):  # from a place of the peer's own: mostly the first look
            number = (2 * peer + step) % slots
            raw: Any = self._association(number)
            if raw.state == free and (not raw.created or now - raw.created >= rest):
                return number
        raise BrineError(
            f"all {slots} associations are in use or at rest",
            "wait ten seconds; if it stays so, raise brine_max_peers",
        )

    def install(
        self,
        number: int,
        peer: int,
        established: Established,
        send_not_after: int,
        receive_not_after: int,
    ) -> None:
        """Fill the free association `number` with what an exchange established, and its
        generation-0 boxes. Times: boot clock, ns.

        :raises ControlError: if the program refuses.
        """
        request = self._request("CONTROL_INSTALL", number)
        request.peer = peer
        request.initiated = established.initiated
        request.local_index = established.local_index
        request.remote_index = established.remote_index
        request.send_not_after = send_not_after
        request.receive_not_after = receive_not_after
        for into, value in (
            (request.identity, established.peer_identity),
            (request.secret, established.secret),
            (request.send_header_key, established.send_header_key),
            (request.receive_header_key, established.receive_header_key),
            (request.own_private, established.own_private),
            (request.own_public, established.own_public),
            (request.peer_public, established.peer_public),
            (request.send.key, established.send.key),
            (request.send.nonce, established.send.nonce),
            (request.receive.key, established.receive.key),
            (request.receive.nonce, established.receive.nonce),
        ):
            into[:] = value
        self._run(request)

    def publish(self, number: int) -> None:
        """Make it the association that its peer's packets are sealed under.

        :raises ControlError: if it is free or pending.
        """
        self._simple("CONTROL_PUBLISH", number)

    def erase(self, number: int) -> None:
        """Stop using it and overwrite its secrets. Erasing a free one is no error.

        :raises ControlError: if there is no such slot. CONTROL_AGAIN: it is out of use, but
            the data path is at one of its keys; erase it again.
        """
        for _attempt in range(_PATIENCE):
            try:
                return self._simple("CONTROL_ERASE", number)
            except ControlError as error:
                if error.result != "CONTROL_AGAIN":
                    raise
            time.sleep(0.001)  # a derivation takes 0.2 ms
        return self._simple("CONTROL_ERASE", number)

    # the ratchet of a living association

    def rotate(self, number: int, generation: int, private: bytes) -> None:
        """Take a new association key as our generation `generation`, one more than the
        newest. No box is made of it: call :meth:`derive`, then have it announced.

        :raises ControlError: CONTROL_NOT_DUE if the newest is not proved, the one before
            not gone, or either less than ten seconds ago; CONTROL_AGAIN if the ratchet moved.
        """
        request = self._request("CONTROL_ROTATE", number)
        request.own_generation = generation
        request.own_private[:] = private
        request.own_public[:] = keys.public_key(private)
        self._run(request)

    def derive(self, number: int) -> None:
        """See that the pair of both newest keys has its boxes. In the kernel, but not in `open`.

        :raises ControlError: CONTROL_AGAIN if the data path is at it or the ratchet moved;
            CONTROL_FAILED if it cannot be: exchange anew; CONTROL_NO_ASSOCIATION.
        """
        self._simple("CONTROL_DERIVE", number)

    def derive_pair(self, asked: DeriveEvent) -> None:
        """The same for the pair that `open` has asked for, on hosts where it may not derive.
        No private key comes here. A pair that is there is no error.

        :raises ControlError: CONTROL_ILLEGAL if the ratchet allows no such pair (any more);
            CONTROL_AGAIN; CONTROL_FAILED if the keys make no box; CONTROL_NO_ASSOCIATION.
        """
        request = self._request("CONTROL_DERIVE_PAIR", asked.association)
        request.own_generation = asked.own_generation
        request.peer_generation = asked.peer_generation
        request.instance = asked.instance
        if asked.key is not None:
            request.keyed = 1
            request.peer_public[:] = asked.key
        self._run(request)

    def retire(self, number: int) -> bool:
        """Overwrite what its ratchet has left behind: our key before a proved one, boxes,
        ten seconds after they were last needed. Whether there was anything.

        :raises ControlError: CONTROL_AGAIN if the data path is at some of it: call again.
        """
        try:
            self._simple("CONTROL_RETIRE", number)
        except ControlError as error:
            if error.result != "CONTROL_NOT_DUE":
                raise
            return False
        return True

    def drawn(self, number: int, own: int, peer: int) -> int:
        """How many numbers the busiest lane of this pair has drawn to seal."""
        slot = number * self.layout.enum("map_size")["PAIRS"] + (own & 1) * 2 + (peer & 1)
        counters: Any = self.layout.counters.from_buffer_copy(self._read("counters", slot))
        return max(int(lane.next) for lane in counters.lane)

    # what the data path counts

    def peer_state(self, number: int) -> PeerState:
        """Read from mapped memory: no system call."""
        if not 0 <= number < self.max_peers:
            raise IndexError(f"there is no peer {number}")
        at = number * self._state_size
        raw: Any = self.layout.peer_state.from_buffer_copy(self._states[at : at + self._state_size])
        return PeerState(
            sending=raw.sending - 1 if raw.sending else None,
            last_sent=raw.last_sent,
            last_received=raw.last_received,
            last_data_sent=raw.last_data_sent,
            last_data_received=raw.last_data_received,
        )

    def traffic(self, number: int) -> Traffic:
        return Traffic(*self._sum("traffic", number))

    def stats(self) -> dict[str, tuple[int, int]]:
        """Reason → (packets, bytes), names as in enum stat, lower-case without STAT_."""
        found = {}
        for name, number in self.layout.enum("stat").items():
            if name.startswith("STAT_"):
                packets, octets = self._sum("stats", number)
                found[name.removeprefix("STAT_").lower()] = (packets, octets)
        return found

    def derive_event(self, event: bytes) -> DeriveEvent:
        """What an EVENT_DERIVE of :meth:`events` says."""
        head: Any = self.layout.event.from_buffer_copy(event)
        data: Any = self.layout.event_derive.from_buffer_copy(event, ctypes.sizeof(head))
        return DeriveEvent(
            peer=head.peer,
            association=head.association,
            own_generation=data.own_generation,
            peer_generation=data.peer_generation,
            instance=data.instance,
            key=bytes(data.key) if data.keyed else None,
        )

    def moved_event(self, event: bytes) -> Endpoint | None:
        """Where the packet of an EVENT_MOVED of :meth:`events` came from."""
        at = ctypes.sizeof(self.layout.event)
        return unpack_endpoint(self.layout.endpoint.from_buffer_copy(event, at))

    def events(self, handle: Callable[[bytes], None]) -> RingBuffer:
        """Consume the ring buffer; `handle` gets each struct event with its data."""
        return RingBuffer(self._map("events"), handle)

    # inside

    def _association(self, number: int) -> Any:
        """struct association, its secrets overwritten."""
        kind: Any = self.layout.association
        made = kind()
        if not self._map("associations").lookup_into(pack_number(number), made):
            raise IndexError(f"there is no association {number}")
        at = kind.secret.offset  # the secrets are its last members
        ctypes.memset(ctypes.addressof(made) + at, 0, ctypes.sizeof(made) - at)
        return made

    def _sum(self, name: str, number: int) -> list[int]:
        """The u64 fields of a per-CPU value, each summed."""
        raw = self._read(name, number)
        words = memoryview(raw).cast("Q")
        width = self._map(name).value_size // 8
        return [sum(words[field::width]) for field in range(width)]

    def _ratchet(self, raw: Any) -> Ratchet:
        flags = self.layout.enum("ratchet_flag")
        word = raw.ratchet
        # The time's last byte is the generation that it is of.
        moved = raw.peer_moved & 0xFF == word.peer_current
        return Ratchet(
            word=int.from_bytes(bytes(word), "little"),
            own_current=word.own_current,
            peer_current=word.peer_current,
            send_own=word.send_own,
            send_peer=word.send_peer,
            unproved=bool(word.flags & flags["RATCHET_UNPROVED"]),
            own_previous=bool(word.flags & flags["RATCHET_OWN_PREVIOUS"]),
            peer_previous=bool(word.flags & flags["RATCHET_PEER_PREVIOUS"]),
            own_unused=bool(word.flags & flags["RATCHET_OWN_UNUSED"]),
            own_since=raw.own_since[word.own_current & 1],
            peer_since=raw.peer_since[word.peer_current & 1],
            own_used_at=raw.own_used_at,
            own_rest_until=raw.own_rest_until,
            peer_moved_at=raw.peer_moved & ~0xFF if moved else 0,
        )

    def _request(self, operation: str, number: int) -> Any:
        request: Any = self.layout.control_request()
        request.operation = self.layout.enum("control_operation")[operation]
        request.association = number
        return request

    def _simple(self, operation: str, number: int) -> None:
        self._run(self._request(operation, number))

    def _run(self, request: ctypes.Structure) -> None:
        """Call the control program on `request`, which is overwritten afterwards."""
        try:
            with self.locked():
                if self.stale():
                    raise StaleMaps
                # Opened each time: an upgrade may have put another one there.
                program = Program.pinned(str(self.directory / "control"))
                with contextlib.closing(program):
                    value = program.call(request)
        finally:
            ctypes.memset(ctypes.addressof(request), 0, ctypes.sizeof(request))
        results = self.layout.enum("control_result")
        if value != results["CONTROL_DONE"]:
            names = {number: name for name, number in results.items()}
            raise ControlError(names.get(value, str(value)))
