# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's long-lived key pair, and the mesh secret.

The private half is made here and never leaves the host; an identity that exists is never
replaced, but by the steps of a rotation (rotation.py).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brine import keys
from brine.config import Paths
from brine.errors import BrineError


@dataclass(frozen=True)
class Identity:
    private: bytes = field(repr=False)
    public: bytes

    def describe(self) -> dict[str, Any]:
        """What anybody may know of it."""
        return {
            "public_key": keys.show_key(self.public),
            "key_id": keys.key_id(self.public),
            "address": str(keys.overlay_address(self.public)),
        }


def ensure(paths: Paths, check: bool) -> dict[str, Any]:
    """Make the identity if there is none: ``{changed, public_key, key_id, address, diff}``.
    With `check` only say so; the keys are then null.

    :raises BrineError: if there is one that cannot be used, or it cannot be made.
    """
    try:
        existing = load(paths)
    except Missing:
        pass
    else:
        text = _text(existing)
        return {
            "changed": False,
            **existing.describe(),
            "diff": {"before": text, "after": text},
        }
    if check:
        nothing = dict.fromkeys(("public_key", "key_id", "address"))
        diff = {"before": "", "after": "a new key pair, made on the host\n"}
        return {"changed": True, **nothing, "diff": diff}
    make(paths.identity)
    made = load(paths)
    return {"changed": True, **made.describe(), "diff": {"before": "", "after": _text(made)}}


def show(paths: Paths) -> dict[str, Any]:
    """``{public_key, key_id, address}``.

    :raises BrineError: if there is no identity, or none that can be used.
    """
    return load(paths).describe()


def load(paths: Paths) -> Identity:
    """The identity.

    :raises Missing: if there is none.
    :raises BrineError: if it cannot be used.
    """
    found = load_at(paths.identity)
    if found is None:
        raise Missing(paths.identity)
    return found


def load_at(path: Path) -> Identity | None:
    """The key pair whose private half is in `path`; None if there is no such file.

    :raises BrineError: if it cannot be used.
    """
    private = _read_secret(path)
    return None if private is None else Identity(private, keys.public_key(private))


def load_mesh_secret(paths: Paths) -> bytes:
    """The mesh secret, 32 bytes; zeros if the mesh has none.

    :raises BrineError: if it cannot be used.
    """
    return _read_secret(paths.mesh_secret) or bytes(keys.KEY_BYTES)


class Missing(BrineError):
    """The host has no identity yet."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no {path}", "run `brine identity ensure`")


def _text(identity: Identity) -> str:
    return "".join(f"{name}: {value}\n" for name, value in identity.describe().items())


def _read_secret(path: Path) -> bytes | None:
    """A key that nobody but root may read, or None if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrineError(f"{path} cannot be read: {error.strerror}", "run as root") from None
    try:
        _refuse_readable(path, os.fstat(descriptor))
        text = os.read(descriptor, 256).decode("ascii", errors="replace")
    finally:
        os.close(descriptor)
    try:
        return keys.parse_key(text)
    except ValueError as error:
        raise BrineError(
            f"{path} {error}", "put it back from a backup, or remove it to have a new one made"
        ) from None


def _refuse_readable(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BrineError(f"{path} is not a regular file", "move away what is there")
    if status.st_uid != os.geteuid():
        raise BrineError(
            f"{path} belongs to user {status.st_uid}, who may have read it",
            f"if nobody else can have, `chown root {path}`; else remove it and rotate",
        )
    if mode := stat.S_IMODE(status.st_mode) & 0o177:
        raise BrineError(
            f"others than root may have read {path}: its mode has {mode:04o} too much",
            f"if nobody else can have, `chmod 0600 {path}`; else remove it and rotate",
        )


def make(path: Path) -> None:
    """A new private key at `path`, complete or not at all, and never over another."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{keys.show_key(keys.generate_private())}\n")
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):  # another run was first: its key stays
                os.link(temporary, path)
        finally:
            temporary.unlink()
        sync(path.parent)
    except OSError as error:
        raise BrineError(
            f"{path} cannot be made: {error.strerror}", "run as root, with room on the disk"
        ) from None


def sync(path: Path) -> None:
    """Have what was made, renamed and removed in the directory `path` on the disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
