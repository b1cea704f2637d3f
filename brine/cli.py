# SPDX-License-Identifier: GPL-3.0-or-later
"""`brine VERB`: reads the arguments, asks the module of that verb, prints the answer.

With --json the answer, or ``{"error": {"cause", "next_step"}}`` and status 1, is one object
on standard output: what the Ansible modules read. Verbs are imported when they are used, so
each works where another lacks something.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import brine
from brine.config import Config, Paths
from brine.config import load as load_config
from brine.errors import BrineError

Answer = dict[str, Any]
_INTERRUPTED = 130  # as a shell says it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        answer = _ask(options)
    except BrineError as error:
        return _complain(options.json, error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    if options.json:
        print(json.dumps(answer, sort_keys=True))
    else:
        print(options.render(answer), end="")
    return int(any(finding["fatal"] for finding in answer.get("findings", ())) and not options.json)


def _ask(options: argparse.Namespace) -> Answer:
    """The verb's answer. What no verb foresaw becomes a BrineError here."""
    try:
        answer: Answer = options.verb(options)
    except BrineError:
        raise
    except PermissionError as error:
        raise BrineError(_reason(error), "run as root") from error
    except Exception as error:  # netlink's and libbpf's, which have no common base
        if os.environ.get("BRINE_TRACEBACK"):
            raise
        if "is not in the BTF" in str(error):
            raise BrineError(
                "the data path that is loaded is of another version than this command",
                "run `brine dataplane apply`, and restart brined",
            ) from error
        raise BrineError(
            _reason(error), "set BRINE_TRACEBACK=1 to see where, and look at dmesg"
        ) from error
    return answer


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, OSError) else f"{type(error).__name__}: {first}"


def _complain(as_json: bool, error: BrineError) -> int:
    if as_json:
        print(json.dumps({"error": {"cause": error.cause, "next_step": error.next_step}}))
    else:
        print(f"brine: {error.cause}.\nNext: {error.next_step}.", file=sys.stderr)
    return 1


# arguments


def _parser() -> argparse.ArgumentParser:
    usual = Paths()
    parser = argparse.ArgumentParser(
        prog="brine", description="Encrypts host-to-host traffic inside the kernel."
    )
    parser.add_argument("--version", action="version", version=brine.__version__)
    for name, where in (("etc", usual.etc), ("state", usual.state), ("run", usual.run)):
        parser.add_argument(
            f"--{name}", type=Path, default=where, metavar="DIRECTORY", help=f"not {where}"
        )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _changing(verbs)
    _asking(verbs)
    return parser


def _add(
    verbs: Any, name: str, verb: Callable[[argparse.Namespace], Answer], text: str, **more: Any
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    made.add_argument("--json", action="store_true", help="print the answer as JSON")
    made.set_defaults(verb=verb, render=more.get("render", _render_change))
    if more.get("check"):
        made.add_argument("--check", action="store_true", help="only say what would change")
    return made


def _changing(verbs: Any) -> None:
    group = verbs.add_parser("identity", help="the host's key pair").add_subparsers(required=True)
    _add(group, "ensure", _identity_ensure, "Make the key pair if there is none.", check=True)
    _add(group, "show", _identity_show, "Print the public half.", render=_render_fields)
    for name, text in (
        ("stage", "Make the next key pair, to be accepted beside this one."),
        ("flip", "Use the next key pair; go on accepting the former one."),
        ("retire", "Forget the former key pair, for good."),
        ("unflip", "Take `flip` back."),
        ("unstage", "Take `stage` back."),
    ):
        _add(group, name, _identity_step, text, check=True).set_defaults(step=name)
    _add(group, "status", _identity_status, "Print all public halves.", render=_render_identities)

    group = verbs.add_parser("dataplane", help="brine0 and the BPF programs")
    group = group.add_subparsers(required=True)
    _add(group, "apply", _dataplane_apply, "Make the data path what its files say.", check=True)
    _add(group, "remove", _dataplane_remove, "Take it away, the guard too.", check=True)
    _add(group, "detach", _dataplane_detach, "Take `open` off the interface.", check=True)

    peers = _add(verbs, "peers", _peers, "List the peers.", render=_render_peers)
    group = peers.add_subparsers()
    apply = _add(group, "apply", _peers_apply, "Reconcile the peers with the roster.", check=True)
    apply.add_argument("--roster", type=Path, metavar="FILE", help="not the one in --etc")

    _add(verbs, "guard", _guard, "Keep the mesh's networks off other interfaces.", check=True)
    text = "Make the next key of the ratchet, now."
    rotate = _add(verbs, "rotate", _rotate, text, render=_render_rotate)
    rotate.add_argument("peer", nargs="?", help="its name; without one, all")
    rotate.add_argument(
        "--exchange", action="store_true", help="exchange anew instead, for another association"
    )


def _asking(verbs: Any) -> None:
    _add(verbs, "status", _status, "Show how this host sees the mesh.", render=_render_status)

    verify = _add(verbs, "verify", _verify, "Reach peers and say why not.", render=_render_verify)
    verify.add_argument("--peers", type=int, default=4, metavar="N", help="so many (default 4)")
    verify.add_argument(
        "--seconds", type=float, default=15, metavar="S", help="wait so long (default 15)"
    )

    gate = _add(verbs, "gate", _gate, "Say whether a change was good.", render=_render_gate)
    gate.add_argument("--peers", type=int, default=4, metavar="N", help="so many (default 4)")
    gate.add_argument(
        "--seconds", type=float, default=30, metavar="S", help="wait so long (default 30)"
    )
    gate.add_argument(
        "--answered",
        type=lambda text: [name for name in text.split(",") if name],
        metavar="NAME,…",
        help="ask these, who answered before the change; empty if nobody did",
    )

    group = verbs.add_parser("probe", help="numbered packets: what is lost, twice, late")
    group = group.add_subparsers(required=True)
    receive = _add(group, "receive", _probe_receive, "Count what comes in.", render=_render_probe)
    receive.add_argument("--seconds", type=float, default=3600, metavar="S", help="at most")
    receive.add_argument("--runs", type=int, metavar="N", help="until so many are complete")
    send = _add(group, "send", _probe_send, "Send, a number a packet.", render=_render_probe)
    send.add_argument("addresses", nargs="+", metavar="ADDRESS", help="in the mesh")
    send.add_argument("--seconds", type=float, default=10, metavar="S", help="(default 10)")
    send.add_argument("--interval", type=float, default=1, metavar="MS", help="(default 1)")

    _add(verbs, "doctor", _doctor, "Say what is amiss on this host.", render=_render_doctor)


def _paths(options: argparse.Namespace) -> Paths:
    return Paths(etc=options.etc, state=options.state, run=options.run)


def _config(options: argparse.Namespace) -> Config:
    return load_config(_paths(options))


# verbs


def _identity_ensure(options: argparse.Namespace) -> Answer:
    from brine import identity, rotation

    answer = identity.ensure(_paths(options), options.check)
    made = answer["public_key"] is not None  # else check mode, and it is yet to be made
    return {**(rotation.status(_paths(options)) if made else {}), **answer}


def _identity_show(options: argparse.Namespace) -> Answer:
    from brine import identity

    return identity.show(_paths(options))


def _identity_step(options: argparse.Namespace) -> Answer:
    from brine import rotation

    steps = {
        "stage": rotation.stage,
        "flip": rotation.flip,
        "retire": rotation.retire,
        "unflip": rotation.unflip,
        "unstage": rotation.unstage,
    }
    return steps[options.step](_paths(options), options.check)


def _identity_status(options: argparse.Namespace) -> Answer:
    from brine import rotation

    return rotation.status(_paths(options))


def _dataplane_apply(options: argparse.Namespace) -> Answer:
    from brine import dataplane

    return dataplane.apply(_config(options), options.check)


def _dataplane_remove(options: argparse.Namespace) -> Answer:
    from brine import dataplane

    return dataplane.remove(_config(options), options.check)


def _dataplane_detach(options: argparse.Namespace) -> Answer:
    from brine import dataplane

    return dataplane.detach(_config(options), options.check)


def _peers_apply(options: argparse.Namespace) -> Answer:
    from brine import reconcile

    paths = _paths(options)
    path = options.roster or paths.roster
    if options.check and not paths.config.exists():
        return reconcile.predict(paths, path)
    return reconcile.apply(load_config(paths), path, options.check)


def _peers(options: argparse.Namespace) -> Answer:
    from brine import status

    answer = status.collect(_config(options))
    return {"peers": answer["peers"]}


def _guard(options: argparse.Namespace) -> Answer:
    from brine import guard

    return guard.apply(_paths(options), options.check)


def _status(options: argparse.Namespace) -> Answer:
    from brine import status

    return status.collect(_config(options))


def _rotate(options: argparse.Namespace) -> Answer:
    from brine import control_client

    more = {"peer": options.peer} if options.peer else {}
    path = _paths(options).control_socket
    return control_client.request(path, "rotate", exchange=options.exchange, **more)


def _verify(options: argparse.Namespace) -> Answer:
    from brine import verify

    return verify.run(_config(options), options.peers, options.seconds)


def _gate(options: argparse.Namespace) -> Answer:
    from brine import gate

    return gate.run(_config(options), options.peers, options.seconds, options.answered)


def _probe_receive(options: argparse.Namespace) -> Answer:
    from brine import identity, probe, roster

    paths = _paths(options)
    own = roster.load(paths.roster).own(identity.load(paths).public)
    return probe.receive(own.addresses, options.seconds, options.runs)


def _probe_send(options: argparse.Namespace) -> Answer:
    from ipaddress import ip_address

    from brine import probe

    try:
        addresses = [ip_address(text) for text in options.addresses]
    except ValueError as error:
        raise BrineError(str(error), "name addresses of the mesh, as `brine peers` shows") from None
    with probe.until_interrupted() as interrupted:
        return probe.send(addresses, options.seconds, options.interval, interrupted=interrupted)


def _doctor(options: argparse.Namespace) -> Answer:
    from brine import doctor

    return doctor.examine(_paths(options))


# text


def _render_change(answer: Answer) -> str:
    """The difference as lines, and the notes."""
    from difflib import ndiff

    before, after = (answer["diff"][side].splitlines() for side in ("before", "after"))
    lines = [line for line in ndiff(before, after) if not line.startswith("?")]
    lines += [f"note: {note}" for note in answer.get("notes", [])]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _render_fields(answer: Answer) -> str:
    return "".join(f"{name}: {value}\n" for name, value in answer.items())


def _render_identities(answer: Answer) -> str:
    lines = [f"state: {answer['state']}\n"]
    for name, one in (
        ("current", answer),
        ("next", answer["next"]),
        ("previous", answer["previous"]),
    ):
        if one is not None:
            lines += [
                f"{name} {what}: {one[what]}\n" for what in ("public_key", "key_id", "address")
            ]
    return "".join(lines)


def _render_peers(answer: Answer) -> str:
    from brine import status

    rows = [
        (
            peer["name"],
            " or ".join((peer["endpoint"] or "unknown", *status.other_endpoints(peer))),
            ", ".join(peer["addresses"]),
        )
        for peer in answer["peers"]
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    return "".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}\n" for row in rows)


def _render_rotate(answer: Answer) -> str:
    lines = [
        f"{what}: {', '.join(answer[key])}\n"
        for key, what in (
            ("made", "keys made, and being announced to"),
            ("later", "keys to be made as soon as the former ones are gone, for"),
            ("started", "exchanges begun with"),
        )
        if answer[key]
    ]
    return "".join(lines) or "there is nobody to do so with\n"


def _render_status(answer: Answer) -> str:
    from brine import status

    return status.render(answer)


def _render_verify(answer: Answer) -> str:
    from brine import verify

    return verify.render(answer)


def _render_gate(answer: Answer) -> str:
    from brine import gate

    return gate.render(answer)


def _render_probe(answer: Answer) -> str:
    from brine import probe

    return probe.render(answer)


def _render_doctor(answer: Answer) -> str:
    from brine import doctor

    return doctor.render(answer)


if __name__ == "__main__":
    sys.exit(main())
