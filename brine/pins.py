# SPDX-License-Identifier: GPL-3.0-or-later
"""The BPF file system: where maps, programs and the XDP link stay between processes.

    {bpffs}/v5/<map>          each map by its name; 5 is LAYOUT_VERSION
    {bpffs}/v5/control        programs; `seal` and `open` to tell whether they are attached, and,
    {bpffs}/v5/seal, open     with `punt`, for who comes after them (former.py)
    {bpffs}/v5/punt
    {bpffs}/v5/open_link      the link that attaches `open` to the underlay
    {bpffs}/v5/object_<hex>   SHA-256 of the object that they were loaded from
    {bpffs}/v4_former1/       the same of maps whose place v5 has taken, as long as their
                              associations are of use; the highest number is the newest
    {bpffs}/v4_former1/until_<ns>   and at the latest until then, on the boot clock
    {bpffs}/v5_next/          exists only within a migration (migration.py)

Digest and time are names, so they go with the pins at a reboot. The digest is written last.
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
from brine.records import boot_ns

PROGRAMS = ("control", "seal", "open", "punt")
_LINK = "open_link"
_OBJECT = "object_"
_UNTIL = "until_"
_UNFINISHED = re.compile("v[0-9]+_(next|old)")  # `_old` an earlier package left
_FORMER = re.compile("(v[0-9]+)_former([0-9]+)")


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


def formers(bpffs: Path) -> list[Path]:
    """Directories of maps whose place others have taken, the oldest first."""
    found = []
    with contextlib.suppress(OSError):
        for path in bpffs.iterdir():
            if named := _FORMER.fullmatch(path.name):
                found.append((int(named[2]), path))
    return [path for _number, path in sorted(found)]


def as_former(directory: Path) -> Path:
    """What the directory in use is called once others have taken its place."""
    newest = max(
        (int(path.name.rpartition("former")[2]) for path in formers(directory.parent)), default=0
    )
    return directory.with_name(f"{directory.name}_former{newest + 1}")


def as_current(former: Path) -> Path:
    """The inverse of :func:`as_former`."""
    named = _FORMER.fullmatch(former.name)
    assert named is not None, former
    return former.with_name(named[1])


def past(bpffs: Path) -> list[Path]:
    """Directories of former maps past their time."""
    now = boot_ns()
    return [path for path in formers(bpffs) if (until(path) or 0) <= now]


def unfinished(bpffs: Path) -> list[Path]:
    """Directories of a migration that was interrupted."""
    try:
        return sorted(path for path in bpffs.iterdir() if _UNFINISHED.fullmatch(path.name))
    except OSError:
        return []


def left_over(bpffs: Path) -> list[Path]:
    """Directories that nobody takes away any more."""
    return past(bpffs) + unfinished(bpffs)


def directories(bpffs: Path) -> list[Path]:
    """All directories of pins: the one in use, former ones, and what was left over."""
    in_use = current(bpffs)
    more = formers(bpffs)
    more += [path for path in left_over(bpffs) if path not in more]
    return ([in_use] if in_use else []) + more


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


def pin_until(directory: Path, when: int, control: Program) -> None:
    """Note that the maps in `directory` are of use until then (boot clock, ns)."""
    unpin_until(directory)
    libbpf.pin(control.fd, str(directory / f"{_UNTIL}{when}"))


def until(directory: Path) -> int | None:
    """What :func:`pin_until` noted."""
    for path in directory.glob(f"{_UNTIL}*"):
        return int(path.name.removeprefix(_UNTIL))
    return None


def unpin_until(directory: Path) -> None:
    for path in directory.glob(f"{_UNTIL}*"):
        path.unlink()


def drop_link(directory: Path) -> None:
    """Forget the link, which another directory has too: it goes on attaching."""
    (directory / _LINK).unlink(missing_ok=True)


def delete(directory: Path) -> None:
    """Remove all pins of `directory` and itself; the note that they are whole first."""
    unpin_digest(directory)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def _replace(descriptor: int, path: Path) -> None:
    """Pin at `path`; whoever opens it meanwhile finds the old one or the new one."""
    passing = path.with_name(f"{path.name}_next")
    passing.unlink(missing_ok=True)
    libbpf.pin(descriptor, str(passing))
    passing.rename(path)
