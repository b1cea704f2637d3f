# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps and programs whose place others have taken, as long as their associations are of use.

Associations are never copied to maps of another layout, and peers need a moment to exchange
anew. Until then the newer programs hand what they have no association for to the former
ones (bpf/former.h), so that no packet is lost:

    `link`      before the newer programs are attached: fills the slots by which they hand on
    `Former`    what is left in former maps; the daemon erases it peer by peer
                (daemon/handover.py), `brine peers apply` what the roster no longer allows
    `end`       empties the slots and takes the former maps away

The daemon of the former maps is gone, so nobody makes this host's next key of their
associations: the last of their boxes closes PAIR_RECEIVE_SECONDS after the newer programs
took over. Then they are of no use, whatever the peers did.

All that is read of maps of another version is found by their own BTF. Any two versions must
agree that there are, by these names:

    of former maps      peers, associations, config, peer_states (in mapped memory), and the BTF
                        that config was made with; peer.identity; association.state, .peer and
                        .local_index, the secrets behind .secret; control_request.operation and
                        .association with CONTROL_ERASE; the enumerators ASSOCIATION_FREE,
                        CONTROL_DONE, CONTROL_AGAIN and PAIR_RECEIVE_SECONDS
    to hand on          the slots and programs of bpf/former.h. An array takes programs of one
                        kind: `open` is an XDP program for packets in fragments (xdp.frags)
    to fill new maps    (migration.copy_tables) what peers, routes, endpoints and config hold,
                        with PEER_ROAMING, route_key, route_value and endpoint
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Self

from brine import pins
from brine.errors import BrineError
from brine.libbpf import Map, Program
from brine.maps import Maps
from brine.records import ControlError, StaleMaps, boot_ns
from brine.tables import pack_number

_SLOT = pack_number(0)
_SECOND = 1_000_000_000
#: what hands on to a former program, by that program's name
_FORMER_SLOTS = {"seal": "former_seal", "open": "former_open"}
_SUCCESSOR = "successor"


def link(old: Path, new: Path, programs: dict[str, Program], lock: Path) -> None:
    """Have the programs loaded into `new` hand what they have no association for to those in
    `old`, and these hand back what they cannot seal. Where `old` is not whole there is nothing
    to hand on to.
    """
    if pins.object_digest(old) is None or not (old / _SUCCESSOR).exists():
        return
    with Maps.open(old, lock) as maps:
        seconds = maps.layout.enum("pair_time")["PAIR_RECEIVE_SECONDS"]
    pins.pin_until(old, boot_ns() + seconds * _SECOND, programs["control"])
    for name, slot in _FORMER_SLOTS.items():
        with contextlib.closing(Program.pinned(str(old / name))) as program:
            _put(new / slot, program)
    _put(old / _SUCCESSOR, programs["punt"])


def reinstate(directory: Path) -> None:
    """The maps in `directory`, which others were perhaps about to replace, are in use: their
    programs hand back nothing."""
    pins.unpin_until(directory)
    _empty(directory / _SUCCESSOR)


def unlink(directory: Path) -> None:
    """Have the programs in `directory` hand nothing on."""
    for slot in _FORMER_SLOTS.values():
        _empty(directory / slot)


def end(bpffs: Path, lock: Path, keep: int = 0) -> None:
    """Erase and take away all former maps but the `keep` newest."""
    formers = pins.formers(bpffs)
    going, staying = formers[: len(formers) - keep], formers[len(formers) - keep :]
    if not going:
        return
    # Who hands on to them stops first: nobody hears of what they could not seal.
    before = staying[0] if staying else pins.current(bpffs)
    if before is not None:
        unlink(before)
    for directory in going:
        retire(directory, lock)


def retire(directory: Path, lock: Path) -> None:
    """Erase the associations of maps that are no longer used, then the pins.

    :raises BrineError: if the control program cannot be called: the pins stay, with the keys.
    """
    try:
        left = Former(directory, lock)
    except BrineError:
        pass  # pins that are not whole: then there never was an association
    else:
        with contextlib.closing(left):
            if (directory / "control").exists():
                left.erase_all()
    pins.delete(directory)


class Former:
    """What is left in the former maps of one directory, open until :meth:`close`.

    `held`: association by number -> identity of its peer, empty if that has none any more.
    `indices`: by which peers name them. `until`: when the last key has ended (boot clock, ns).

    :raises BrineError: if the maps are not there, or not for this user.
    """

    def __init__(self, directory: Path, lock: Path) -> None:
        self.directory = directory
        self.until = pins.until(directory) or 0
        self._maps = Maps.open(directory, lock)
        try:
            identities = self._maps.identities()
            in_use = self._maps.associations_in_use()
        except FileNotFoundError:  # they are being taken away
            self._maps.close()
            raise StaleMaps from None
        except BaseException:
            self._maps.close()
            raise
        self.indices = {local_index for _peer, local_index in in_use.values()}
        self.held = {number: identities.get(peer, b"") for number, (peer, _index) in in_use.items()}

    def close(self) -> None:
        self._maps.close()

    def erase(self, identity: bytes) -> None:
        """Overwrite what there is of that peer."""
        self._erase([number for number, peer in self.held.items() if peer == identity])

    def erase_all(self) -> None:
        """Overwrite everything."""
        self._erase(list(self.held))

    def _erase(self, numbers: list[int]) -> None:
        for number in numbers:
            try:
                self._maps.erase(number)
            except StaleMaps:  # somebody else has taken them away
                self.held.clear()
                return
            except ControlError:  # the data path is at it: another time
                continue
            del self.held[number]


class Formers:
    """All former maps of a host, the oldest first.

    :raises BrineError: if some are there that cannot be opened: nobody may pass over keys.
    """

    def __init__(self, bpffs: Path, lock: Path) -> None:
        self.all: list[Former] = []
        for directory in pins.formers(bpffs):
            try:
                self.all.append(Former(directory, lock))
            except StaleMaps:  # being taken away
                continue
            except BrineError:
                if pins.object_digest(directory) is not None:
                    self.close()
                    raise
                # Just taken away, or never whole.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for one in self.all:
            one.close()
        self.all.clear()

    @property
    def until(self) -> int:
        """When the last key of them all has ended (boot clock, ns)."""
        return max((one.until for one in self.all), default=0)

    @property
    def indices(self) -> set[int]:
        """By which peers name their associations."""
        return {index for one in self.all for index in one.indices}

    def identities(self) -> set[bytes]:
        """Of the peers that there is an association with."""
        return {identity for one in self.all for identity in one.held.values()}

    def erase(self, identity: bytes) -> None:
        for one in self.all:
            one.erase(identity)

    def take_away(self, in_use: Path) -> None:
        """Nothing is left in them: have the programs in `in_use` hand nothing on, and remove the
        pins. Needs no BTF. By one at a time: apply_lock.

        :raises OSError: if some pins cannot be removed, after the others. They hold memory
            then, and no key.
        """
        unlink(in_use)
        directories = [one.directory for one in self.all]
        self.close()
        failure: OSError | None = None
        for directory in directories:
            try:
                pins.delete(directory)
            except FileNotFoundError:
                continue  # somebody else has
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure


def _put(slot: Path, program: Program) -> None:
    with contextlib.closing(Map.pinned(str(slot))) as item:
        item.update(_SLOT, program.fd.to_bytes(4, "little"))


def _empty(slot: Path) -> None:
    try:
        item = Map.pinned(str(slot))
    except FileNotFoundError:  # maps that are not whole
        return
    with contextlib.closing(item):
        item.delete(_SLOT)
