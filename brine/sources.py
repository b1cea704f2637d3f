# SPDX-License-Identifier: GPL-3.0-or-later
"""Where outer packets leave from, as the host's addresses come and go.

`brine peers apply` chooses; in between, the daemon follows: an address that is
gone is replaced, one that is still there is kept, whatever else has come. The data
path receives where it sends from, so the peers reach the host there and nowhere else
in that family.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    def of(self, version: int) -> Address | None:
        return self.ipv4 if version == 4 else self.ipv6

    @property
    def families(self) -> frozenset[int]:
        """IP versions that there is one of."""
        return frozenset(version for version in (4, 6) if self.of(version) is not None)


@dataclass(frozen=True)
class Followed:
    """What became of the sources when the host's addresses changed."""

    sources: Sources
    moved: bool  #: whether they are others than before
    families: frozenset[int]  #: in which the interface has the source
    renamed: frozenset[int]  #: in which it is another, that the roster names too


def choose(
    usable: Iterable[Address], endpoints: Sequence[Endpoint], now: Sources | None = None
) -> Sources:
    """The first of the host's endpoints in each family that is one of the interface's
    addresses (behind a translator none is), but another of them that is in use: peers send
    there. Else the first IPv4 address, and the IPv6 address if there is only one.

    :param now: what is in use.
    """
    usable, now = list(usable), now or Sources()

    def of(version: int, now: Address | None) -> Address | None:
        family = [address for address in usable if address.version == version]
        ours = [endpoint.address for endpoint in endpoints if endpoint.address in family]
        if ours:
            return now if now in ours else ours[0]
        return family[0] if family and (version == 4 or len(family) == 1) else None

    return Sources(of(4, now.ipv4), of(6, now.ipv6))


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


def follow(config: Config, maps: Maps, endpoints: Sequence[Endpoint]) -> Followed:
    """Replace the sources that the underlay no longer has, or never had. A family without any
    address keeps what it had: there is nothing better, and it may come back.

    :param endpoints: the host's own, by the roster.
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
        before, wanted = read(maps), choose(usable, endpoints)
        after = Sources(
            before.ipv4 if before.ipv4 in usable else wanted.ipv4 or before.ipv4,
            before.ipv6 if before.ipv6 in usable else wanted.ipv6 or before.ipv6,
        )
        if after != before:
            write(maps, after)
        ours = {endpoint.address for endpoint in endpoints}
        return Followed(
            after,
            after != before,
            families=frozenset(v for v in (4, 6) if after.of(v) in usable),
            renamed=frozenset(
                v for v in (4, 6) if after.of(v) != before.of(v) and after.of(v) in ours
            ),
        )
