# SPDX-License-Identifier: GPL-3.0-or-later
"""`brine gate`: whether a change to this host has done the mesh good, told from real traffic.

A play that changes one host after another asks this after each. It looks before and after it
has sent echo requests to a few peers as `brine verify` does:

    reached         they answer
    opened          packets of each of them were decrypted meanwhile
    failures        nothing failed to decrypt or to be sealed meanwhile
    association     with every peer that was heard of lately, it was made with the identity that
                    this host uses now

Peers are held against a host only if the change can have to do with it. `brine verify` tells
before a change who answers; these and no others must answer afterwards. If nobody did, one must:
a host that reaches no peer has not shown that it is well.

After an upgrade that changed the maps' layout it waits before the first look until the peers
have exchanged anew: what the former programs open for them shows in none of these.

Never fails for what it finds: findings are its answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from brine import status, verify
from brine.config import Config
from brine.errors import BrineError
from brine.verify import Finding, finding

RECENT = 30.0  #: s; a peer that was heard of since then lives
_PAUSE = 0.25  # s between two looks
#: Drops of packets that belonged to an association. What strangers can cause is not among them.
FAILURES = (
    "open_expired",
    "open_forged",
    "open_inner",
    "open_no_box",
    "open_source",
    "seal_error",
    "seal_exhausted",
    "seal_expired",
    "seal_no_endpoint",
)


def run(
    config: Config, peers: int = 4, seconds: float = 30, answered: Sequence[str] | None = None
) -> dict[str, Any]:
    """Look, reach so many peers, look again, waiting so long at most: ``{findings, reached,
    figures}``, and `logs` if a finding is fatal.

    answered: who did before the change; None if nobody has asked.
    """
    end = time.monotonic() + seconds
    findings: list[Mapping[str, Any]] = []
    figures: dict[str, Any] = {}
    try:
        before = status.collect(config)
        while not_handed_over(before) and time.monotonic() < end:
            time.sleep(_PAUSE)
            before = status.collect(config)
        end = time.monotonic() + seconds
        answer = verify.run(config, peers, seconds, named=answered or ())
        findings += excuse(answer) if answered == [] else answer["findings"]
        after = status.collect(config)
        while (old := outdated(before, after)) and time.monotonic() < end:
            time.sleep(_PAUSE)
            after = status.collect(config)
        reached = [one["peer"] for one in answer["reached"]]
        findings += judge(before, after, reached, old)
        figures = measure(before, after)
    except BrineError as error:
        answer = {"reached": []}
        findings.append(finding("data path", error.cause, error.next_step))
    result = {"findings": findings, "reached": answer["reached"], "figures": figures}
    if any(one["fatal"] for one in findings):
        result["logs"] = answer.get("logs") or verify.logs()
    return result


def excuse(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`verify`'s findings where nobody had answered before the change: peers that still do not
    are no reason to stop, unless there is none that does."""
    stop = not answer["reached"]
    return [
        {**one, "fatal": one["fatal"] and (stop or "peer" not in one)} for one in answer["findings"]
    ]


def not_handed_over(look: Mapping[str, Any]) -> list[str]:
    """Peers whose packets go by the former programs, until there is a new association."""
    if look["former"] is None:
        return []
    confirmed = {
        peer["name"]
        for peer in look["peers"]
        if peer["association"] and peer["association"]["state"] == "confirmed"
    }
    return [name for name in look["former"]["peers"] if name not in confirmed]


def outdated(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Peers that live, whose association was not made with the identity in use."""
    alive = {
        peer["name"]
        for peer in before["peers"]
        if peer["association"]
        and peer["last_received_seconds"] is not None
        and peer["last_received_seconds"] < RECENT
    }
    return [
        peer
        for peer in after["peers"]
        if peer["name"] in alive
        and (
            peer["association"] is None
            or peer["association"]["state"] != "confirmed"
            or peer["association"]["own_key_id"] != after["key_id"]
        )
    ]


def judge(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    reached: list[str],
    old: list[dict[str, Any]],
) -> list[Finding]:
    """What the two looks say, beside what the echo requests said.

    reached: names of the peers that answered.
    old: what :func:`outdated` says in the end.
    """
    found = []
    opened = {peer["name"]: peer["received_packets"] for peer in before["peers"]}
    for peer in after["peers"]:
        if peer["name"] in reached and peer["received_packets"] <= opened.get(peer["name"], 0):
            found.append(
                finding(
                    "opened",
                    f"{peer['name']} answered, but no packet of it was decrypted",
                    "look with `brine status` where its packets come from",
                )
            )
    for reason, packets in measure(before, after)["failures"].items():
        found.append(
            finding(
                "failures",
                f"{packets} packets were dropped meanwhile: {reason}",
                "compare `brine status` here and on the peers, and look at journalctl -u brined",
            )
        )
    for peer in old:
        found.append(
            finding(
                "association",
                f"there is none with {peer['name']} that was made with the identity in use,"
                f" {after['key_id']}",
                f"see that {peer['name']} has the newest roster and runs brined: run the role"
                " peers on all hosts",
            )
        )
    return found


def measure(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Packets opened and failures between the two looks."""

    def received(look: Mapping[str, Any]) -> int:
        return sum(peer["received_packets"] for peer in look["peers"])

    rise = {name: after["drops"].get(name, 0) - before["drops"].get(name, 0) for name in FAILURES}
    return {
        "opened": received(after) - received(before),
        "failures": {name: packets for name, packets in rise.items() if packets > 0},
    }


def render(answer: Mapping[str, Any]) -> str:
    """`run`'s answer as text."""
    figures = answer["figures"]
    opened = f"{figures['opened']} packets were opened meanwhile\n" if figures else ""
    return verify.render(dict(answer)) + opened
