# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon remembers on disk: timestamps, and whose associations the maps hold."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from brine import keys
from brine.daemon import timestamps
from brine.errors import BrineError

_VERSION = 1


@dataclass
class State:
    """`reserved`: UNIX ns up to which own timestamps may have been used.
    `floors`: identity -> TAI64N. `credentials`: see :func:`credentials`, of every one accepted.
    `made_with`: index of an association -> own and peer's identity."""

    reserved: int = 0
    floors: dict[bytes, bytes] = field(default_factory=dict)
    credentials: frozenset[str] = frozenset()
    made_with: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)


def credentials(public_key: bytes, psk: bytes) -> str:
    """Names the identity and the mesh secret that associations were made with, and
    tells nothing of the secret (a keyed hash of 32 random bytes)."""
    named = hashlib.blake2b(b"brine credentials" + public_key, digest_size=16, key=psk)
    return named.hexdigest()


class StateFile:
    """`state.json`: read once, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> State:
        """The state, or a fresh one where there is none.

        :raises BrineError: if it cannot be read or is not a state.
        """
        try:
            given = json.loads(self.path.read_text(encoding="utf-8"))
            return _parse(given)
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise BrineError(
                f"{self.path} cannot be read: {error.strerror}", "run brined as root"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BrineError(
                f"{self.path} is malformed",
                "move it away: peers then accept this host by its clock alone",
            ) from None

    def write(self, state: State) -> None:
        """Replace the file; it is on disk when this returns.

        :raises OSError: if it could not be written; the former one is intact then.
        """
        text = json.dumps(
            {
                "version": _VERSION,
                "reserved": timestamps.encode(state.reserved).hex(),
                "credentials": ",".join(sorted(state.credentials)),
                "made_with": {
                    str(index): [keys.show_key(one) for one in both]
                    for index, both in sorted(state.made_with.items())
                },
                "floors": {
                    keys.show_key(identity): stamp.hex()
                    for identity, stamp in sorted(state.floors.items())
                },
            },
            indent=1,
        )
        new = self.path.with_name(f".{self.path.name}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _parse(given: dict[str, object]) -> State:
    if given["version"] != _VERSION:
        raise ValueError("another version")
    floors = {}
    for key, stamp in dict(given["floors"]).items():  # type: ignore[call-overload]
        value = bytes.fromhex(stamp)
        timestamps.decode(value)
        floors[base64.b64decode(key, validate=True)] = value
    return State(
        reserved=timestamps.decode(bytes.fromhex(str(given["reserved"]))),
        floors=floors,
        credentials=frozenset(filter(None, str(given["credentials"]).split(","))),
        made_with={
            int(index): (keys.parse_key(own), keys.parse_key(theirs))
            for index, (own, theirs) in dict(given.get("made_with", {})).items()  # type: ignore[call-overload]
        },
    )
