# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's configuration: ``config.json``, which the role ``dataplane`` writes.

Peers are no part of it (roster.py), keys neither (identity.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from brine.errors import BrineError

DEVICE = "brine0"  #: the end of the pair that the host uses
INSIDE = "brine0p"  #: the end that the programs own
OVERHEAD = 80  #: bytes that DATA adds over IPv6: 40 + 8 + 32
MINIMUM_MTU = 1280  #: of IPv6, RFC 8200
XDP_MODES = ("auto", "native", "generic")
#: of settings that a file may lack; those of the role. A play that is cut short leaves a newer
#: package with an older file, and the host must come up with that.
DEFAULTS = {"kernel_derivation": True, "mtu": None, "roaming": False}
_PEERS_LIMIT = 1 << 20  # indices and peer numbers stay far from enum route_value


@dataclass(frozen=True)
class Paths:
    """Where a host keeps what. Tests have hosts with directories of their own."""

    etc: Path = Path("/etc/brine")
    state: Path = Path("/var/lib/brine")
    run: Path = Path("/run/brine")

    @property
    def config(self) -> Path:
        return self.etc / "config.json"

    @property
    def identity(self) -> Path:
        return self.etc / "identity.key"

    @property
    def identity_next(self) -> Path:
        """The key pair that is to take the place of `identity` (rotation.py)."""
        return self.etc / "identity.next.key"

    @property
    def identity_previous(self) -> Path:
        """The key pair whose place `identity` has taken, until it is retired."""
        return self.etc / "identity.previous.key"

    @property
    def mesh_secret(self) -> Path:
        return self.etc / "mesh_secret"

    @property
    def roster(self) -> Path:
        return self.etc / "roster.json"

    @property
    def daemon_state(self) -> Path:
        return self.state / "state.json"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def control_lock(self) -> Path:
        """Held around the control program (maps.py)."""
        return self.run / "control.lock"

    @property
    def identity_lock(self) -> Path:
        """Held by whoever changes which identities there are."""
        return self.run / "identity.lock"

    @property
    def apply_lock(self) -> Path:
        """Held by whoever changes the data path or the peers."""
        return self.run / "apply.lock"


@dataclass(frozen=True)
class Config:
    """``config.json``, checked."""

    bpffs: Path  #: directory of the pins, below a mounted bpffs
    copy_dscp: bool
    interface: str  #: underlay
    kernel_derivation: bool  #: whether `open` derives keys, or has the daemon see to it
    max_peers: int  #: slots of the maps that have one per peer
    mtu: int | None  #: of brine0; None: the underlay's less OVERHEAD
    object: Path  #: the BPF object
    port: int  #: UDP, ours
    roaming: bool  #: whether this host does: bpf/roaming.h, daemon/roaming.py
    xdp_mode: str  #: of XDP_MODES
    paths: Paths


def load(paths: Paths) -> Config:
    """Read and check ``paths.config``.

    :raises BrineError: if it is missing, unreadable or malformed.
    """
    path = paths.config
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BrineError(f"there is no {path}", "run the role dataplane on this host") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BrineError(
            f"{path} cannot be read: {_reason(error)}", "make it a text file that root can read"
        ) from None
    try:
        return parse(text, paths)
    except ValueError as error:
        raise BrineError(
            f"{path} is malformed: {error}", "correct the inventory and run the role dataplane"
        ) from None


def parse(text: str, paths: Paths) -> Config:
    """The configuration in `text`.

    :raises ValueError: saying what is wrong with it.
    """
    try:
        given = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(given, dict):
        raise ValueError("it is not an object")
    known = {field.name for field in fields(Config)} - {"paths"}
    given = {**DEFAULTS, **given}
    if missing := sorted(known - given.keys()):
        raise ValueError(f"{missing[0]} is missing")
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"{unknown[0]!r} is not a setting")
    mtu = given["mtu"]
    mode = _of(given, "xdp_mode", str)
    if mode not in XDP_MODES:
        raise ValueError(f"xdp_mode is {mode!r}, not one of {', '.join(XDP_MODES)}")
    return Config(
        bpffs=_directory(given, "bpffs"),
        copy_dscp=_of(given, "copy_dscp", bool),
        interface=_interface(given),
        kernel_derivation=_of(given, "kernel_derivation", bool),
        max_peers=_number(given, "max_peers", 1, _PEERS_LIMIT),
        mtu=None if mtu is None else _number(given, "mtu", MINIMUM_MTU, 65535),
        object=_directory(given, "object"),
        port=_number(given, "port", 1, 65535),
        roaming=_of(given, "roaming", bool),
        xdp_mode=mode,
        paths=paths,
    )


def disagreement(config: Config, roaming: bool) -> str | None:
    """What is amiss if the roster has that for this host's `roaming`."""
    if config.roaming == roaming:
        return None
    if config.roaming:
        return f"{config.paths.config} has this host roam, the roster not: its peers do not follow"
    return (
        f"the roster has this host roam, {config.paths.config} not: it does not keep in touch"
        " with its peers"
    )


def _of(given: Mapping[str, Any], name: str, kind: type) -> Any:
    value = given[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        what = {str: "a string", bool: "true or false", int: "a whole number"}[kind]
        raise ValueError(f"{name} is {value!r}, not {what}")
    return value


def _number(given: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value: int = _of(given, name, int)
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, not within {least} to {most}")
    return value


def _directory(given: Mapping[str, Any], name: str) -> Path:
    path = Path(_of(given, name, str))
    if not path.is_absolute():
        raise ValueError(f"{name} is {str(path)!r}, not an absolute path")
    return path


def _interface(given: Mapping[str, Any]) -> str:
    name: str = _of(given, "interface", str)
    # IFNAMSIZ counts the terminator
    if not 0 < len(name.encode()) < 16 or "/" in name or name in (DEVICE, INSIDE):
        raise ValueError(f"interface is {name!r}, which no underlay interface can be called")
    return name


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not UTF-8"
