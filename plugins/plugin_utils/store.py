# SPDX-License-Identifier: GPL-3.0-or-later
"""The public-key store: small text files beside the inventory, never a private key.

    HOST.txt            the identity in use
    HOST.next.txt       the one that is to follow it      } while it is being rotated,
    HOST.previous.txt   the one that it has followed      } one of the two
    HOST.removed.txt    what the host had when it was removed from the mesh, a line each

Ansible reads no `.txt` as an inventory.
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
import typing as t
from collections.abc import Iterable
from pathlib import Path

KEY_BYTES = 32
IDENTITIES = ("current", "next", "previous")
SUFFIXES = {"current": ".txt", "next": ".next.txt", "previous": ".previous.txt"}
REMOVED = ".removed.txt"
#: endings that a host's name must not have, since its files would be another's
RESERVED = tuple(suffix.removesuffix(".txt") for suffix in (*SUFFIXES.values(), REMOVED))[1:]


def parse_key(text: str) -> bytes:
    """A 32-byte key from its base64. ValueError says what is wrong with it."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not base64") from error
    if len(key) != KEY_BYTES:
        raise ValueError(f"has {len(key)} bytes instead of {KEY_BYTES}")
    if not any(key):
        raise ValueError("is all zeros")
    return key


def show_key(key: bytes) -> str:
    return base64.b64encode(key).decode()


class Store:
    """The store in one directory, which need not be there yet."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def path(self, host: str, which: str = "current") -> Path:
        return self.directory / f"{host}{SUFFIXES[which]}"

    def removed_path(self, host: str) -> Path:
        return self.directory / f"{host}{REMOVED}"

    def text(self, host: str, which: str = "current") -> str | None:
        """What the file holds, or None if there is none."""
        return _read(self.path(host, which))

    def read(self, host: str, which: str = "current") -> bytes | None:
        """The key. ValueError says what is wrong with it."""
        text = self.text(host, which)
        return None if text is None else parse_key(text)

    def hosts(self) -> set[str]:
        """Those with an identity in use."""
        names = (path.name.removesuffix(".txt") for path in self._files())
        return {name for name in names if not name.endswith(RESERVED)}

    def removed(self, also: Iterable[str] = ()) -> dict[str, set[str]]:
        """Hosts that were removed, and the keys that they had, in base64.

        also: hosts to count as removed, whether it is noted or not.
        """
        noted = (
            path.name.removesuffix(REMOVED) for path in self._files() if path.name.endswith(REMOVED)
        )
        return {host: set(self._had(host)) for host in (*noted, *also)}

    def _files(self) -> Iterable[Path]:
        return sorted(self.directory.glob("*.txt"))

    def put(self, host: str, keys: dict[str, str | None]) -> dict[Path, str | None]:
        """What must be written (None: removed) to have these keys in the store."""
        wanted = {
            self.path(host, which): f"{keys[which]}\n" if keys.get(which) else None
            for which in IDENTITIES
        }
        return self._differing(wanted)

    def take(self, host: str) -> dict[Path, str | None]:
        """What must be written to have nothing of the host in the store."""
        return self._differing({self.path(host, which): None for which in IDENTITIES})

    def remove(self, host: str) -> dict[Path, str | None]:
        """What must be written to keep the host out of the mesh from now on."""
        lines = "".join(f"{key}\n" for key in dict.fromkeys(self._had(host)))
        return {**self._differing({self.removed_path(host): lines}), **self.take(host)}

    def _had(self, host: str) -> list[str]:
        """The keys that its note has, then those in the store; some perhaps twice."""
        noted = (_read(self.removed_path(host)) or "").split()
        texts = (self.text(host, which) for which in IDENTITIES)
        return [*noted, *(text.strip() for text in texts if text)]

    def prune(self, members: Iterable[str]) -> dict[Path, str | None]:
        """What must be written to have only these hosts, and the removed ones, in the store."""
        changes: dict[Path, str | None] = {}
        for host in sorted(self.hosts() - set(members)):
            changes.update(self.take(host))
        return changes

    @staticmethod
    def _differing(wanted: dict[Path, str | None]) -> dict[Path, str | None]:
        return {path: text for path, text in wanted.items() if _read(path) != text}

    def write(self, changes: dict[Path, str | None]) -> None:
        """Make the changes, each complete or not at all."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path, text in changes.items():
            if text is None:
                path.unlink(missing_ok=True)
                continue
            descriptor, name = tempfile.mkstemp(dir=self.directory)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            os.chmod(name, 0o644)
            os.replace(name, path)


def describe(changes: dict[Path, str | None]) -> list[dict[str, t.Any]]:
    """The changes as Ansible shows a difference."""
    return [
        {
            "before": _read(path) or "",
            "after": text or "",
            "before_header": str(path),
            "after_header": str(path),
        }
        for path, text in changes.items()
    ]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
