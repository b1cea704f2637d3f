# SPDX-License-Identifier: GPL-3.0-or-later
"""The BPF file system: where maps, programs and the XDP link stay between processes.

    {bpffs}/v4/<map>          each map by its name; 4 is LAYOUT_VERSION
    {bpffs}/v4/control        programs; `seal` and `open` only to tell whether they are attached
    {bpffs}/v4/seal, open
    {bpffs}/v4/open_link      the link that attaches `open` to the underlay
    {bpffs}/v4/object_<hex>   SHA-256 of the object that they were loaded from

The digest is a name, so it goes with the pins at a reboot; it is written last.
`v2_next` and `v2_old` exist only within a migration (migration.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from pathlib import Path

from brine import libbpf
from brine.errors import BrineError
from brine.libbpf import LinkInfo, Program
from brine.maps import pin_directory

PROGRAMS = ("control", "seal", "open")
_LINK = "open_link"
_OBJECT = "object_"
_PASSING = re.compile("v[0-9]+_(next|old)")


def ensure_bpffs(bpffs: Path) -> None:
    """Make the directory of the pins, and mount a BPF file system for it if there is none.

    :raises BrineError: if that cannot be.
    """
    try:
        if not is_on_bpffs(bpffs):
            _mount(bpffs.parent)
        bpffs.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BrineError(
            f"there is no BPF file system for {bpffs}: {error.strerror}",
            f"mount one: mount -t bpf bpf {bpffs.parent}",
        ) from None


def is_on_bpffs(path: Path) -> bool:
    """Whether `path` lies, or would lie, on a mounted BPF file system."""
    kind, length = "", -1
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _source, point, this_kind, *_rest = line.split()
        # Later lines cover earlier ones.
        if path.is_relative_to(point) and len(point) >= length:
            kind, length = this_kind, len(point)
    return kind == "bpf"


def _mount(point: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(point), b"bpf", 0, b"mode=0700"):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def current(bpffs: Path) -> Path | None:
    """The directory of the pins in use, if there is one."""
    try:
        return pin_directory(bpffs)
    except BrineError:
        return None


def left_over(bpffs: Path) -> list[Path]:
    """Directories of a migration that was interrupted."""
    with contextlib.suppress(OSError):
        return sorted(path for path in bpffs.iterdir() if _PASSING.fullmatch(path.name))
    return []


def directories(bpffs: Path) -> list[Path]:
    """All directories of pins: the one in use and what was left over."""
    in_use = current(bpffs)
    return ([in_use] if in_use else []) + left_over(bpffs)


def object_digest(directory: Path) -> str | None:
    """SHA-256 of the object that the pinned programs come from; None if unfinished."""
    for path in directory.glob(f"{_OBJECT}*"):
        return path.name.removeprefix(_OBJECT)
    return None


def program_id(directory: Path, name: str) -> int:
    """The kernel's number of the pinned program, or 0."""
    try:
        program = Program.pinned(str(directory / name))
    except OSError:
        return 0
    with contextlib.closing(program):
        return program.id()


def link_info(directory: Path) -> LinkInfo | None:
    """What the pinned link attaches."""
    try:
        link = libbpf.open_pinned(str(directory / _LINK))
    except OSError:
        return None
    try:
        return LinkInfo(link)
    finally:
        os.close(link)


def open_link(directory: Path) -> int:
    """A file descriptor of the pinned link, which the caller closes."""
    return libbpf.open_pinned(str(directory / _LINK))


def pin_link(directory: Path, link: int) -> None:
    _replace(link, directory / _LINK)


def unpin_link(directory: Path) -> None:
    """Detach `open` and drop the link; when this returns, the device is free for another."""
    try:
        link = open_link(directory)
    except FileNotFoundError:
        return
    try:
        libbpf.detach_link(link)
    finally:
        os.close(link)
    (directory / _LINK).unlink()


def pin_programs(directory: Path, programs: dict[str, Program]) -> None:
    for name, program in programs.items():
        _replace(program.fd, directory / name)


def pin_digest(directory: Path, digest: str, control: Program) -> None:
    """Note that everything in `directory` comes from this object."""
    unpin_digest(directory)
    libbpf.pin(control.fd, str(directory / f"{_OBJECT}{digest}"))


def unpin_digest(directory: Path) -> None:
    for path in directory.glob(f"{_OBJECT}*"):
        path.unlink()


def delete(directory: Path) -> None:
    """Remove all pins of `directory` and itself."""
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def _replace(descriptor: int, path: Path) -> None:
    """Pin at `path`; whoever opens it meanwhile finds the old one or the new one."""
    passing = path.with_name(f"{path.name}_next")
    passing.unlink(missing_ok=True)
    libbpf.pin(descriptor, str(passing))
    passing.rename(path)
