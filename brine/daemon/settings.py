# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon reads of the host: keys, names, and where the data path sends from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from brine import identity, keys, roster, rotation, sources
from brine.config import Config, Paths, disagreement
from brine.daemon.journal import Log
from brine.daemon.sockets import Binding
from brine.exchange import Credential
from brine.maps import Maps
from brine.roster import Endpoint, Entry


def credentials(paths: Paths) -> tuple[Credential, ...]:
    """What exchanges are made with: the first is used, all are accepted (rotation.py).

    :raises BrineError: if there is no identity, or a file is malformed.
    """
    secret = identity.load_mesh_secret(paths)
    return tuple(Credential(one.private, secret) for one in rotation.load(paths).accepted)


@dataclass(frozen=True)
class Members:
    """What the roster says of identities."""

    entries: Mapping[bytes, Entry] = field(default_factory=dict)  #: by each of their identities

    def name(self, public_key: bytes) -> str:
        """The host's name, or the id of its key, for logs and answers."""
        entry = self.entries.get(public_key)
        return entry.name if entry else keys.key_id(public_key)

    def endpoints(self, public_key: bytes) -> tuple[Endpoint, ...]:
        """Where the host may be reached, the preferred one first."""
        entry = self.entries.get(public_key)
        return entry.endpoints if entry else ()

    def identities(self, public_key: bytes) -> tuple[bytes, ...]:
        """Every identity of the host that has this one, it first."""
        entry = self.entries.get(public_key)
        others = entry.public_keys if entry else ()
        return (public_key, *(key for key in others if key != public_key))


def members(paths: Paths) -> Members:
    """A host that is being set up has no roster yet, and no peers.

    :raises BrineError: if the roster is malformed.
    """
    if not paths.roster.exists():
        return Members()
    entries = roster.load(paths.roster).entries
    return Members({key: entry for entry in entries for key in entry.public_keys})


def compare(config: Config, members: Members, own: bytes, log: Log) -> None:
    """Say what of the host's settings is not as the roster has it."""
    entry = members.entries.get(own)
    if entry is not None and (cause := disagreement(config, entry.roaming)):
        log.warning("settings disagree", cause=cause)


def binding(config: Config, maps: Maps) -> Binding:
    """Where the data path sends from and listens."""
    settings, found = maps.config(), sources.read(maps)
    return Binding(
        source4=found.ipv4,
        source6=found.ipv6,
        port=int.from_bytes(settings.port.to_bytes(2, "little"), "big"),
        interface=config.interface,
        index=settings.underlay_ifindex,
    )
