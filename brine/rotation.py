# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotating the host's identity: two are valid for a while, and nothing is lost.

    state     files in /etc/brine                           accepted      used
    single    identity.key                                  it            it
    staged    identity.key, identity.next.key               both          identity.key
    flipped   identity.key, identity.previous.key           both          identity.key

      single ── stage ──→ staged ── flip ──→ flipped ── retire ──→ single
        ↑                  │  ↑                  │
        └──── unstage ─────┘  └───── unflip ─────┘

Nothing else remembers the state, so a run that was cut short goes on from what the files say.
Each step is complete or has not begun: it makes one link or file, then renames one. A key that
two files name (a step was cut short between them) counts once, as `identity.key`.

The roster tells the other hosts. `flip` and `retire` refuse to go ahead of it: the others would
not accept what this host then uses, or still use what it no longer accepts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from brine import control_client, identity, keys, roster
from brine.config import Paths
from brine.errors import BrineError
from brine.identity import Identity
from brine.locking import locked


@dataclass(frozen=True)
class Identities:
    """All that the host has: at most one of `next` and `previous`."""

    current: Identity
    next: Identity | None = None
    previous: Identity | None = None

    @property
    def state(self) -> str:
        if self.next is not None:
            return "staged"
        return "single" if self.previous is None else "flipped"

    @property
    def accepted(self) -> tuple[Identity, ...]:
        """The one in use first."""
        return tuple(one for one in (self.current, self.next, self.previous) if one is not None)

    def describe(self) -> dict[str, Any]:
        """What anybody may know of them."""
        return {
            "state": self.state,
            **self.current.describe(),
            "next": self.next.describe() if self.next else None,
            "previous": self.previous.describe() if self.previous else None,
        }


def load(paths: Paths) -> Identities:
    """Every identity of the host.

    :raises identity.Missing: if it has none in use.
    :raises BrineError: if one cannot be used, or there are three.
    """
    current = identity.load(paths)
    others = [identity.load_at(path) for path in (paths.identity_next, paths.identity_previous)]
    following, previous = (
        None if one is not None and one.public == current.public else one for one in others
    )
    if following is not None and previous is not None:
        raise BrineError(
            f"the host has three identities: there are both {paths.identity_next} and"
            f" {paths.identity_previous}",
            "remove the one that the roster does not name: `brine identity status` after that",
        )
    return Identities(current, following, previous)


def status(paths: Paths) -> dict[str, Any]:
    """``{state, public_key, key_id, address, next, previous}``; the last two as the first
    without `state`, or null.

    :raises BrineError: as :func:`load`.
    """
    return load(paths).describe()


def stage(paths: Paths, check: bool) -> dict[str, Any]:
    """Make the next identity, unless a rotation is under way: as :func:`status`, and
    ``{changed, diff}``. With `check` only say so; `next` is then null.

    :raises BrineError: as :func:`load`, or if it cannot be made.
    """

    def change(found: Identities) -> Identities:
        if not check:
            paths.identity_next.unlink(missing_ok=True)  # a second name of the current one
            identity.make(paths.identity_next)
        return found if check else load(paths)

    return _step(paths, check, "single", change, "a next key pair, made on the host\n")


def flip(paths: Paths, check: bool) -> dict[str, Any]:
    """Use the next identity from now on, and accept the former one: as :func:`stage`.

    :raises BrineError: if there is no next one, or the roster does not name it.
    """

    def change(found: Identities) -> Identities:
        assert found.next is not None
        _refuse_untold(paths, found.next)
        if not check:
            _replace(paths.identity, paths.identity_next, paths.identity_previous)
        return Identities(found.next, previous=found.current)

    return _step(
        paths,
        check,
        "staged",
        change,
        refuse={
            "single": BrineError(
                "there is no next identity to flip to",
                "stage one first: `brine identity stage`, and then the roster",
            )
        },
    )


def unflip(paths: Paths, check: bool) -> dict[str, Any]:
    """Take :func:`flip` back: as :func:`stage`.

    :raises BrineError: as :func:`load`.
    """

    def change(found: Identities) -> Identities:
        assert found.previous is not None
        if not check:
            _replace(paths.identity, paths.identity_previous, paths.identity_next)
        return Identities(found.previous, next=found.current)

    return _step(paths, check, "flipped", change)


def retire(paths: Paths, check: bool) -> dict[str, Any]:
    """Forget the former identity, for good: as :func:`stage`.

    :raises BrineError: before :func:`flip`, or if the roster still has the former one in use.
    """

    def change(found: Identities) -> Identities:
        _refuse_unused(paths, found.current)
        if not check:
            paths.identity_previous.unlink()
        return Identities(found.current)

    return _step(
        paths,
        check,
        "flipped",
        change,
        refuse={
            "staged": BrineError(
                "the next identity is not in use yet",
                "flip first, or take it back: `brine identity unstage`",
            )
        },
    )


def unstage(paths: Paths, check: bool) -> dict[str, Any]:
    """Take :func:`stage` back: as :func:`stage`.

    :raises BrineError: after :func:`flip`.
    """

    def change(found: Identities) -> Identities:
        if not check:
            paths.identity_next.unlink()
        return Identities(found.current)

    return _step(
        paths,
        check,
        "staged",
        change,
        refuse={
            "flipped": BrineError(
                "the next identity is already in use",
                "flip back first: `brine identity unflip`",
            )
        },
    )


def _step(
    paths: Paths,
    check: bool,
    begins: str,
    change: Callable[[Identities], Identities],
    note: str = "",
    refuse: Mapping[str, BrineError] = MappingProxyType({}),
) -> dict[str, Any]:
    """Make the change if the state is `begins`, refuse where `refuse` says why.

    note: what check mode adds to its prediction.
    """
    with contextlib.nullcontext() if check else locked(paths.identity_lock):
        found = load(paths)
        if found.state in refuse:
            raise refuse[found.state]
        changed = found.state == begins
        after = found
        if changed:
            try:
                after = change(found)
                if not check:
                    identity.sync(paths.etc)
            except OSError as error:
                raise BrineError(
                    f"the identities in {paths.etc} cannot be changed: {error.strerror}",
                    "run as root, with room on the disk",
                ) from None
    if not check:
        # Also if nothing has changed: an earlier run may have been cut short before this.
        with contextlib.suppress(control_client.NotRunning):
            control_client.request(paths.control_socket, "reload")
    diff = {"before": _text(found), "after": _text(after) + (note if changed and check else "")}
    return {"changed": changed, **after.describe(), "diff": diff}


def _replace(current: Path, successor: Path, kept: Path) -> None:
    """`successor` becomes `current`, whose content goes on as `kept`."""
    kept.unlink(missing_ok=True)  # a second name of the current one, of a run that was cut short
    os.link(current, kept)
    os.replace(successor, current)


def _refuse_untold(paths: Paths, following: Identity) -> None:
    """A flip of which the others do not know."""
    if roster.load(paths.roster).find(following.public) is None:
        raise BrineError(
            f"{paths.roster} does not name the next identity"
            f" {keys.key_id(following.public)}: the other hosts would refuse it",
            "have the roster rendered and applied on every host first: the role peers",
        )


def _refuse_unused(paths: Paths, current: Identity) -> None:
    """Forgetting an identity to which the others still turn."""
    entry = roster.load(paths.roster).find(current.public)
    if entry is None or entry.public_key != current.public:
        raise BrineError(
            f"{paths.roster} does not have {keys.key_id(current.public)} as the identity in use:"
            " the other hosts still turn to the former one",
            "have the roster rendered and applied on every host first: the role peers",
        )


def _text(found: Identities) -> str:
    lines = [f"state: {found.state}"]
    for name, one in (("", found.current), ("next ", found.next), ("previous ", found.previous)):
        if one is not None:
            lines += [f"{name}{what}: {value}" for what, value in one.describe().items()]
    return "".join(f"{line}\n" for line in lines)
