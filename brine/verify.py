# SPDX-License-Identifier: GPL-3.0-or-later
"""`brine verify`: real echo requests through brine0, and why one was not answered.

Never fails for what it finds: findings are its answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, NotRequired, TypedDict

from brine import identity, roster, status
from brine.config import DEVICE, Config
from brine.errors import BrineError
from brine.roster import Address, Entry, parse_endpoint

ATTEMPT_SECONDS = 1.0  #: between two requests to one address
_LOG_LINES = 200
_UNITS = ("brined", "brine-dataplane", "brine-guard")
_ECHO = {4: (8, 0), 6: (128, 129)}  # request, reply: RFC 792, RFC 4443
_SHORTEST = 20 + 8


class Finding(TypedDict):
    """As the plugins' findings: one word, what is wrong, what to do, whether to stop."""

    check: str
    cause: str
    next_step: str
    fatal: bool
    peer: NotRequired[str]  #: whom it is about, where another host may know better


def run(
    config: Config, peers: int = 4, seconds: float = 15, named: Sequence[str] = ()
) -> dict[str, Any]:
    """Reach so many peers, or those that are named, waiting so long: `{findings, reached:
    [{peer, rtt_ms}]}`, and `logs` if a finding is fatal."""
    findings: list[Finding] = []
    reached: list[dict[str, Any]] = []
    try:
        seen = status.collect(config)
        own = identity.load(config.paths).public
        members = roster.load(config.paths.roster)
        here = members.own(own).public_key or own  # as all hosts have it, while ours is rotated
        if named:
            chosen, unknown = find(members.peers(own), named)
            findings += unknown
        else:
            chosen = choose(members.peers(own), here, peers, _located(seen))
        findings += _local(seen, config)
        targets = [Target(peer.name, address) for peer in chosen for address in _one_each(peer)]
        if targets and not any(one["check"] == "data path" for one in findings):
            echo(targets, seconds)
            reached = _reached(targets)
            findings += _unreached(targets, status.collect(config))
    except BrineError as error:
        findings.append(finding("data path", error.cause, error.next_step))
    answer: dict[str, Any] = {"findings": findings, "reached": reached}
    if any(one["fatal"] for one in findings):
        answer["logs"] = logs()
    return answer


def render(answer: dict[str, Any]) -> str:
    """`run`'s answer as text."""
    lines = [f"{one['peer']}: answered in {one['rtt_ms']:.2f} ms" for one in answer["reached"]]
    for one in answer["findings"]:
        lines.append(f"{'error' if one['fatal'] else 'warning'}: {one['check']}: {one['cause']}.")
        lines.append(f"  Next: {one['next_step']}.")
    return "\n".join(lines or ["there is no peer to reach"]) + "\n"


def finding(check: str, cause: str, next_step: str, fatal: bool = True) -> Finding:
    return Finding(check=check, cause=cause, next_step=next_step, fatal=fatal)


def choose(peers: Iterable[Entry], own: bytes, count: int, located: set[str]) -> list[Entry]:
    """The next `count` peers on a ring that all hosts agree on, so that every host is asked by
    as many as it asks. Peers of unknown whereabouts are left out."""

    def place(public_key: bytes) -> bytes:
        return hashlib.blake2b(public_key, digest_size=8).digest()

    ring = sorted(
        (place(peer.public_key), peer)
        for peer in peers
        if peer.public_key is not None and peer.name in located
    )
    here = place(own)
    after = [peer for at, peer in ring if at > here] + [peer for at, peer in ring if at <= here]
    return after[:count]


def find(peers: Iterable[Entry], names: Iterable[str]) -> tuple[list[Entry], list[Finding]]:
    """The peers of these names, wherever they are, and a finding for each name that has none."""
    by_name = {peer.name: peer for peer in peers if peer.public_key is not None}
    chosen: list[Entry] = []
    unknown: list[Finding] = []
    for name in dict.fromkeys(names):
        if name in by_name:
            chosen.append(by_name[name])
        else:
            cause = f"{name} is no peer of this host"
            next_step = "compare the host's roster with the inventory: run the role peers"
            unknown.append({**finding("echo", cause, next_step), "peer": name})
    return chosen, unknown


def _located(seen: dict[str, Any]) -> set[str]:
    return {str(peer["name"]) for peer in seen["peers"] if peer["endpoint"]}


def _one_each(peer: Entry) -> list[Address]:
    """The peer's first address of each family."""
    firsts: dict[int, Address] = {}
    for address in peer.addresses:
        firsts.setdefault(address.version, address)
    return list(firsts.values())


# What this host alone shows


def _local(seen: dict[str, Any], config: Config) -> list[Finding]:
    found = []
    if seen["mtu"] is None:
        found.append(
            finding("data path", f"there is no device {DEVICE}", "run `brine dataplane apply`")
        )
    if seen["xdp_mode"] is None:
        found.append(
            finding(
                "data path",
                f"no program is attached to {config.interface}",
                "run `brine dataplane apply`",
            )
        )
    daemon = seen["daemon"]
    if not daemon["running"]:
        found.append(
            finding("daemon", "brined does not run", "look why: journalctl -u brined; start it")
        )
    elif "trouble" in daemon:
        found.append(finding("daemon", daemon["trouble"], "look at journalctl -u brined"))
    return found


# Echo


@dataclass
class Target:
    """One address of a peer, and how soon it answered."""

    peer: str
    address: Address
    rtt: float | None = None  #: s
    sent: dict[int, float] = field(default_factory=dict)  #: sequence -> when


class _Echo:
    """A raw socket of one family on brine0. Raw, since ping sockets are for groups that
    net.ipv4.ping_group_range allows, which by default is none."""

    def __init__(self, version: int) -> None:
        self.request, self.reply = _ECHO[version]
        self.version = version
        self.token = os.urandom(8)
        self.identifier = int.from_bytes(os.urandom(2), "big")
        self.socket = socket.socket(
            socket.AF_INET6 if version == 6 else socket.AF_INET,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP,
        )
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())

    def send(self, target: Target, sequence: int) -> None:
        head = struct.pack("!BBHHH", self.request, 0, 0, self.identifier, sequence)
        packet = head + self.token
        if self.version == 4:  # over IPv6 the kernel fills it in: RFC 3542, 3.1
            packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
        with contextlib.suppress(OSError):  # counts as sent, and not answered
            self.socket.sendto(packet, (str(target.address), 0))
        target.sent[sequence] = time.monotonic()

    def receive(self) -> tuple[str, int] | None:
        """Who answered which of our requests, or None if there is nothing more."""
        while True:
            try:
                data, source = self.socket.recvfrom(2048)
            except OSError:
                return None
            if self.version == 4:  # IPv4 raw sockets get the IP header too
                if len(data) < _SHORTEST:
                    continue
                data = data[(data[0] & 15) * 4 :]
            if len(data) < 16 or data[0] != self.reply or data[8:16] != self.token:
                continue
            identifier, sequence = struct.unpack_from("!HH", data, 4)
            if identifier == self.identifier:
                return str(source[0]).partition("%")[0], sequence


def echo(targets: Sequence[Target], seconds: float) -> None:
    """Send each an echo request a second until it answers or time is up; fills in `rtt`.

    :raises BrineError: if this user may not.
    """
    try:
        sockets = {version: _Echo(version) for version in {one.address.version for one in targets}}
    except PermissionError:
        raise BrineError("echo requests need a raw socket", "run as root") from None
    except OSError as error:
        raise BrineError(
            f"{DEVICE} cannot be used: {error.strerror}", "run `brine dataplane apply`"
        ) from None
    waiting = {str(target.address): target for target in targets}
    end = time.monotonic() + seconds
    sequence = 0
    try:
        while waiting and time.monotonic() < end:
            for target in waiting.values():
                sockets[target.address.version].send(target, sequence)
            round_end = min(end, time.monotonic() + ATTEMPT_SECONDS)
            while waiting and (left := round_end - time.monotonic()) > 0:
                ready = select.select([one.socket for one in sockets.values()], [], [], left)[0]
                for one in sockets.values():
                    if one.socket in ready:
                        _answered(one, waiting)
            sequence += 1
    finally:
        for one in sockets.values():
            one.socket.close()


def _answered(one: _Echo, waiting: dict[str, Target]) -> None:
    now = time.monotonic()
    while (answer := one.receive()) is not None:
        source, sequence = answer
        target = waiting.get(source)
        if target is not None and sequence in target.sent:
            target.rtt = now - target.sent[sequence]
            del waiting[source]


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


# What the answers say


def _reached(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Peers whose every address answered, with the shortest time."""
    times: dict[str, list[float | None]] = {}
    for target in targets:
        times.setdefault(target.peer, []).append(target.rtt)
    return [
        {"peer": peer, "rtt_ms": round(min(rtt for rtt in all_of if rtt is not None) * 1000, 3)}
        for peer, all_of in times.items()
        if all(rtt is not None for rtt in all_of)
    ]


def _unreached(targets: Sequence[Target], seen: dict[str, Any]) -> list[Finding]:
    peers = {peer["name"]: peer for peer in seen["peers"]}
    found: list[Finding] = []
    for target in targets:
        if target.rtt is None:
            cause, next_step = _why(target, peers.get(target.peer), seen)
            found.append({**finding("echo", cause, next_step), "peer": target.peer})
    return found


def _why(target: Target, peer: dict[str, Any] | None, seen: dict[str, Any]) -> tuple[str, str]:
    silent = f"{target.peer} does not answer at {target.address}"
    if peer is None:
        return silent, "run `brine peers apply`: the maps do not know this peer"
    places = [*peer["endpoints"], *([peer["endpoint"]] if peer["endpoint"] else [])]
    if lacking := _no_common_family(places, seen["sources"]):
        interface = seen["interface"]
        next_step = (
            f"give {interface} one, or name an endpoint of {target.peer} of another family in"
            " brine_endpoint"
        )
        return (
            f"{silent}: {lacking} would be needed, of which {interface} has no address",
            next_step,
        )
    association = peer["association"]
    if association is None or association["state"] != "confirmed":
        next_step = (
            "see that brined runs there with the same mesh secret, and that UDP to port"
            f" {seen['port']} passes between this host and"
            f" {' or '.join(dict.fromkeys(places)) or target.peer}"
        )
        return f"{silent}: there is no association with it", next_step
    next_step = (
        "compare `brine status` here and there: drops say where packets end; see also that"
        f" {target.peer} answers echo requests"
    )
    return f"{silent}, though there is an association", next_step


def _no_common_family(endpoints: Sequence[str], sources: Sequence[str]) -> str | None:
    """The families of the endpoints, if this host can send by none of them."""
    theirs = {parse_endpoint(endpoint).address.version for endpoint in endpoints}
    ours = {ip_address(source).version for source in sources}
    if not theirs or theirs & ours:
        return None
    return " or ".join(f"IPv{version}" for version in sorted(theirs))


def logs() -> str:
    """The end of what brine's units wrote to the journal."""
    command = ["journalctl", "--no-pager", "--output=short-iso", f"--lines={_LOG_LINES}"]
    command += [f"--unit={unit}" for unit in _UNITS]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"the journal cannot be read: {error}\n"
    return (done.stdout or done.stderr).decode(errors="replace")
