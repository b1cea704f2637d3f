# SPDX-License-Identifier: GPL-3.0-or-later
"""Where outer packets leave from, as the host's addresses come and go.

`brine peers apply` chooses; in between, the daemon follows: an address that is
gone is replaced, one that is still there is kept, whatever else has come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from brine.config import Config
from brine.errors import BrineError
from brine.locking import locked
from brine.maps import Maps
from brine.records import pack_address, unpack_address
from brine.roster import Address, Endpoint


@dataclass(frozen=True)
class Sources:
    """Where outer packets leave from, one a family; None: the host has none."""

    ipv4: Address | None = None
    ipv6: Address | None = None


def choose(usable: Iterable[Address], endpoint: Endpoint | None) -> Sources:
    """The host's endpoint where it is one of the interface's addresses (behind a translator
    it is not), else its first IPv4 address, and its IPv6 address if it has only one."""
    usable = list(usable)

    def of(version: int) -> Address | None:
        family = [address for address in usable if address.version == version]
        if endpoint is not None and endpoint.address in family:
            return endpoint.address
        return family[0] if family and (version == 4 or len(family) == 1) else None

    return Sources(of(4), of(6))


def read(maps: Maps) -> Sources:
    """What the data path sends from now."""
    settings = maps.config()
    found = []
    for field in (settings.source4, settings.source6):
        raw = bytes(field.bytes)
        found.append(unpack_address(raw) if any(raw) else None)
    return Sources(*found)


def write(maps: Maps, sources: Sources) -> None:
    """Have the data path send from there. By one writer at a time: apply_lock."""
    settings = maps.config()
    for field, address in (
        (settings.source4, sources.ipv4),
        (settings.source6, sources.ipv6),
    ):
        field.bytes[:] = pack_address(address) if address else bytes(16)
    maps.write_config(settings)


def follow(config: Config, maps: Maps, endpoint: Endpoint | None) -> Sources | None:
    """Replace the sources that the underlay no longer has, or never had; what they became, or
    None if nothing was to be done. A family without any address keeps what it had: there is
    nothing better, and it may come back.

    :param endpoint: the host's own, by the roster.
    :raises Busy: if somebody else is changing the data path, who may choose anew.
    :raises BrineError: if the interface is gone.
    """
    from brine.netdev import Net  # 13 MB in the daemon, which may never need it

    with locked(config.paths.apply_lock, wait=False), Net() as net:
        underlay = net.link(config.interface)
        if underlay is None:
            raise BrineError(
                f"there is no interface {config.interface}", "bring it back, or set another"
            )
        usable = net.sources(underlay.index)
        before, wanted = read(maps), choose(usable, endpoint)
        after = Sources(
            before.ipv4 if before.ipv4 in usable else wanted.ipv4 or before.ipv4,
            before.ipv6 if before.ipv6 in usable else wanted.ipv6 or before.ipv6,
        )
        if after == before:
            return None
        write(maps, after)
        return after
