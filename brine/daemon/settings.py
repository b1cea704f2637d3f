# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon reads of the host: keys, names, and where the data path sends from."""

from __future__ import annotations

from typing import Any

from brine import identity, roster
from brine.config import Config, Paths
from brine.daemon.sockets import Binding
from brine.exchange import Credential
from brine.maps import Maps
from brine.records import unpack_address
from brine.roster import Address


def credential(paths: Paths) -> Credential:
    """What exchanges are made with.

    :raises BrineError: if there is no identity, or a file is malformed.
    """
    return Credential(identity.load(paths).private, identity.load_mesh_secret(paths))


def roster_names(paths: Paths) -> dict[bytes, str]:
    """Names by identity, for logs and answers. A host that is being set up has no roster yet,
    and no peers.

    :raises BrineError: if the roster is malformed.
    """
    if not paths.roster.exists():
        return {}
    entries = roster.load(paths.roster).entries
    return {entry.public_key: entry.name for entry in entries if entry.public_key is not None}


def binding(config: Config, maps: Maps) -> Binding:
    """Where the data path sends from and listens."""
    settings = maps.config()
    return Binding(
        source4=_source(settings.source4),
        source6=_source(settings.source6),
        port=int.from_bytes(settings.port.to_bytes(2, "little"), "big"),
        interface=config.interface,
        index=settings.underlay_ifindex,
    )


def _source(address: Any) -> Address | None:
    raw = bytes(address.bytes)
    return unpack_address(raw) if any(raw) else None
