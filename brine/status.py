# SPDX-License-Identifier: GPL-3.0-or-later
"""How this host sees the mesh: what the maps and the daemon say, on one screen.

Works without the daemon, and says so. Nothing here is secret.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any

import brine
from brine import control_client, keys, roster, rotation, sources
from brine.config import DEVICE, Config
from brine.control_client import NotRunning
from brine.errors import BrineError
from brine.former import Formers
from brine.maps import Maps
from brine.netdev import Net
from brine.records import Association, PeerEntry, boot_ns
from brine.roster import Entry, Roster

SECOND = 1_000_000_000
# Reasons of enum stat that are no drops. A keepalive has done its work once it is opened.
_NO_DROPS = ("seal_ok", "open_ok", "open_keepalive", "open_pass_")
_TIMEOUT = 3.0  # s; one screen should not have to wait for a busy daemon


def collect(config: Config) -> dict[str, Any]:
    """Everything that `brine status --json` prints (docs/operations.md). Ages are in seconds,
    null where there has been nothing.

    :raises BrineError: if the data path is not loaded, or not for this user.
    """
    identities = rotation.load(config.paths)
    own = identities.current
    members = roster.load(config.paths.roster)
    entry = members.find(own.public)
    running = daemon(config)
    with Maps.of(config) as maps, Net() as net:
        underlay, device = net.link(config.interface), net.link(DEVICE)
        sending = sources.read(maps)
        return {
            "host": entry.name if entry else socket.gethostname(),
            "version": brine.__version__,
            "public_key": keys.show_key(own.public),
            "key_id": keys.key_id(own.public),
            "identity": {
                "state": identities.state,
                "next": identities.next and keys.key_id(identities.next.public),
                "previous": identities.previous and keys.key_id(identities.previous.public),
            },
            "addresses": [str(address) for address in entry.addresses] if entry else [],
            "interface": config.interface,
            "xdp_mode": underlay.xdp_mode if underlay else None,
            "mtu": device.mtu if device else None,
            "port": config.port,
            "sources": [str(sending.of(family)) for family in sorted(sending.families)],
            "kernel_derivation": maps.derives_on_reception(),
            "daemon": running,
            "former": former(config, members),
            "peers": peers(maps, members, running.pop("made_with", {})),
            "drops": {
                reason: packets
                for reason, (packets, _octets) in maps.stats().items()
                if not reason.startswith(_NO_DROPS)
            },
        }


def former(config: Config, members: Roster) -> dict[str, Any] | None:
    """What is left of the maps whose place those in use have taken; None if there are none."""
    with Formers(config.bpffs, config.paths.control_lock) as formers:
        if not formers.all:
            return None
        return {
            "peers": sorted(
                entry.name if (entry := members.find(identity)) else keys.key_id(identity)
                for identity in formers.identities()
                if identity  # else its slot has been emptied
            ),
            "ends_seconds": round(max(0, formers.until - boot_ns()) / SECOND, 1),
        }


def daemon(config: Config) -> dict[str, Any]:
    """{running, pid, since}; what the daemon itself adds: exchanges under way and so on.
    `since` is UNIX time. `trouble` says why a daemon that listens gave no answer."""
    try:
        answer = control_client.request(config.paths.control_socket, "status", _TIMEOUT)
    except NotRunning:
        return {"running": False, "pid": None, "since": None}
    except BrineError as error:
        return {"running": True, "pid": None, "since": None, "trouble": error.cause}
    return {"running": True, **answer}


def peers(maps: Maps, members: Roster, made_with: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Every peer in the maps, by name.

    made_with: own and peer's key id by an association's index, as the daemon says.
    """
    entries = {key: entry for entry in members.entries for key in entry.public_keys}
    by_peer: dict[int, list[Association]] = {}
    for association in maps.associations():
        by_peer.setdefault(association.peer, []).append(association)
    now = boot_ns()
    found = [
        _peer(maps, peer, entries.get(peer.identity), by_peer.get(number, []), now, made_with)
        for number, peer in maps.peers().items()
    ]
    return sorted(found, key=lambda peer: str(peer["name"]))


def _peer(
    maps: Maps,
    peer: PeerEntry,
    entry: Entry | None,
    associations: list[Association],
    now: int,
    made_with: Mapping[str, list[str]],
) -> dict[str, Any]:
    state = maps.peer_state(peer.number)
    traffic = maps.traffic(peer.number)
    confirmed = [one.created for one in associations if one.state == "confirmed"]
    return {
        "name": entry.name if entry else keys.key_id(peer.identity),
        "public_key": keys.show_key(peer.identity),
        "key_id": keys.key_id(peer.identity),
        "endpoint": str(peer.endpoint) if peer.endpoint else None,
        "endpoints": [str(endpoint) for endpoint in entry.endpoints] if entry else [],
        "roaming": peer.roaming,
        "addresses": [str(address) for address in entry.addresses] if entry else [],
        "association": _association(associations, state.sending, now, made_with),
        "last_exchange_seconds": _age(max(confirmed, default=0), now),
        "last_received_seconds": _age(state.last_received, now),
        "sent_packets": traffic.sent_packets,
        "sent_bytes": traffic.sent_bytes,
        "received_packets": traffic.received_packets,
        "received_bytes": traffic.received_bytes,
    }


def _association(
    associations: Iterable[Association],
    sending: int | None,
    now: int,
    made_with: Mapping[str, list[str]],
) -> dict[str, Any] | None:
    """The one that packets are sealed under, else the newest."""
    newest = max(associations, key=lambda one: (one.number == sending, one.created), default=None)
    if newest is None:
        return None
    own_key, peer_key = made_with.get(str(newest.local_index), (None, None))
    return {
        "state": "expired" if now >= newest.send_not_after else newest.state,
        "age_seconds": _age(newest.created, now),
        "initiated": newest.initiated,
        "own_generation": newest.ratchet.own_current,
        "peer_generation": newest.ratchet.peer_current,
        "number": newest.number,
        "local_index": newest.local_index,
        "own_key_id": own_key,
        "peer_key_id": peer_key,
    }


def _age(then: int, now: int) -> float | None:
    return round(max(0, now - then) / SECOND, 1) if then else None


# For people


def render(status: Mapping[str, Any]) -> str:
    """`collect`'s answer as text of one screen, more peers aside."""
    running = status["daemon"]
    lines = [
        f"{DEVICE}: {status['host']}",
        f"  public key: {status['public_key']}",
        f"  key id: {status['key_id']}{_rotation(status['identity'])}",
        f"  addresses: {_list(status['addresses'])}",
        f"  underlay: {status['interface']}, port {status['port']}, {_mode(status['xdp_mode'])}",
        f"  MTU: {status['mtu'] if status['mtu'] is not None else 'the device is missing'}",
        f"  daemon: {_daemon(running)}",
    ]
    if not status["kernel_derivation"]:
        lines.insert(-1, "  keys: derived when the daemon asks, not on reception")
    if status["former"]:
        lines.append(f"  former programs: still at work for {_list(status['former']['peers'])}")
    under_way = running.get("exchanges", {})
    for peer in status["peers"]:
        lines += ["", *_render_peer(peer, under_way.get(peer["name"]))]
    drops = {reason: packets for reason, packets in status["drops"].items() if packets}
    if drops:
        lines += ["", "dropped packets:"]
        lines += [f"  {reason}: {packets}" for reason, packets in sorted(drops.items())]
    return "\n".join(lines) + "\n"


def _render_peer(peer: Mapping[str, Any], exchange: str | None) -> list[str]:
    roaming = " (roaming)" if peer["roaming"] else ""
    lines = [
        f"peer: {peer['name']}",
        f"  public key: {peer['public_key']}",
        f"  endpoint: {peer['endpoint'] or 'not known yet'}{roaming}",
        *(f"  other endpoint: {other}" for other in other_endpoints(peer)),
        f"  addresses: {_list(peer['addresses'])}",
        f"  association: {_render_association(peer['association'])}",
    ]
    if exchange is not None:
        lines.append(f"  exchange under way: {exchange}")
    if peer["last_received_seconds"] is not None:
        lines.append(f"  last heard of: {_ago(peer['last_received_seconds'])}")
    if peer["sent_packets"] or peer["received_packets"]:
        lines.append(
            f"  transfer: {_bytes(peer['received_bytes'])} received,"
            f" {_bytes(peer['sent_bytes'])} sent"
        )
    return lines


def other_endpoints(peer: Mapping[str, Any]) -> list[str]:
    """Those of the roster that are not in use, the preferred one first."""
    return [endpoint for endpoint in peer["endpoints"] if endpoint != peer["endpoint"]]


def _render_association(association: Mapping[str, Any] | None) -> str:
    if association is None:
        return "none"
    by = "this host" if association["initiated"] else "the peer"
    generations = f"{association['own_generation']}/{association['peer_generation']}"
    return (
        f"{association['state']}, begun by {by} {_ago(association['age_seconds'])},"
        f" generations {generations}"
        f"{_identities(association)}"
    )


def _rotation(identity: Mapping[str, str | None]) -> str:
    if identity["next"]:
        return f", to be followed by {identity['next']}"
    return f", following {identity['previous']}" if identity["previous"] else ""


def _identities(association: Mapping[str, Any]) -> str:
    if association["own_key_id"] is None:
        return ""
    return f", identities {association['own_key_id']}/{association['peer_key_id']}"


def _daemon(running: Mapping[str, Any]) -> str:
    if not running["running"]:
        return "not running: systemctl start brined"
    if "trouble" in running:
        return f"{running['trouble']}: journalctl -u brined"
    return f"running, pid {running['pid']}, version {running['version']}"


def _mode(mode: str | None) -> str:
    return f"{mode} XDP" if mode else "the program is not attached"


def _list(values: Iterable[str]) -> str:
    return ", ".join(values) or "none"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return f"{seconds:.0f} seconds ago"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
