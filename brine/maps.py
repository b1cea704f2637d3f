# SPDX-License-Identifier: GPL-3.0-or-later
"""The pinned maps: the only place that reads and writes them.

bpf/maps.h says who may write what. Associations and boxes change only through the
`control` program, one caller at a time. Nothing here returns a secret.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Collection
from typing import Any

from brine.errors import BrineError
from brine.libbpf import Program, RingBuffer
from brine.records import (
    Association,
    ControlError,
    Established,
    PeerEntry,
    PeerState,
    RouteValues,
    StaleMaps,
    Traffic,
    boot_ns,
)
from brine.tables import TableMaps, pack_number, pin_directory

__all__ = [
    "Association",
    "ControlError",
    "Established",
    "Maps",
    "PeerEntry",
    "PeerState",
    "RouteValues",
    "StaleMaps",
    "Traffic",
    "boot_ns",
    "pin_directory",
]


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
            own_generation=raw.own_generation,
            peer_generation=raw.peer_generation,
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
        request: Any = self.layout.control_request()
        request.operation = self.layout.enum("control_operation")["CONTROL_INSTALL"]
        request.association = number
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

        :raises ControlError: if there is no such slot.
        """
        self._simple("CONTROL_ERASE", number)

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

    def events(self, handle: Callable[[bytes], None]) -> RingBuffer:
        """Consume the ring buffer; `handle` gets each struct event with its data."""
        return RingBuffer(self._map("events"), handle)

    # inside

    def _association(self, number: int) -> ctypes.Structure:
        """struct association, its secrets overwritten."""
        kind: Any = self.layout.association
        made: ctypes.Structure = kind()
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

    def _simple(self, operation: str, number: int) -> None:
        request: Any = self.layout.control_request()
        request.operation = self.layout.enum("control_operation")[operation]
        request.association = number
        self._run(request)

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
