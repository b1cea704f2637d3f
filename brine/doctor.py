# SPDX-License-Identifier: GPL-3.0-or-later
"""`brine doctor`: what keeps this host from carrying the mesh, or from doing it well.

It loads the object once more, beside the one in use, and lets the kernel compute with it:
the results must be libsodium's. Nothing is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import nacl.bindings
import nacl.secret

from brine import control_client, dataplane, identity, keys, loader, pins, reconcile, roster
from brine.config import Config, Paths, disagreement
from brine.config import load as load_config
from brine.errors import BrineError
from brine.libbpf import Map, Object, Program

_FLOOR = (6, 1)
_TEXT = bytes(range(256)) * 5  # more than a packet's worth of blocks, and a rest
_ZERO = bytes(4)


class Finding(TypedDict):
    check: str
    cause: str
    next_step: str
    fatal: bool


class Report:
    """What was looked at, and what is amiss."""

    def __init__(self) -> None:
        self.sound: list[str] = []
        self.findings: list[Finding] = []

    @contextlib.contextmanager
    def look(self, check: str) -> Iterator[None]:
        """A BrineError within is a finding; none is a point in favour."""
        try:
            yield
        except BrineError as error:
            self.note(check, error.cause, error.next_step)
        else:
            self.sound.append(check)

    def note(self, check: str, cause: str, next_step: str, fatal: bool = True) -> None:
        self.findings.append(Finding(check=check, cause=cause, next_step=next_step, fatal=fatal))


def examine(paths: Paths) -> dict[str, Any]:
    """``{sound: [check], findings: [{check, cause, next_step, fatal}]}``. Never fails."""
    report = Report()
    with report.look("kernel"):
        _kernel()
    _jit(report)
    with report.look("identity"):
        identity.load(paths)
        identity.load_mesh_secret(paths)
    config: Config | None = None
    with report.look("configuration"):
        config = load_config(paths)
    if config is not None:
        with report.look("programs"):
            _self_test(config)
        _applied(report, config)
        _agreed(report, config)
        with report.look("daemon"):
            control_client.request(paths.control_socket, "status")
    return {"sound": report.sound, "findings": report.findings}


def render(answer: dict[str, Any]) -> str:
    """`examine`'s answer as text."""
    lines = [f"{check}: sound" for check in answer["sound"]]
    for one in answer["findings"]:
        lines.append(f"{one['check']}: {'' if one['fatal'] else 'note: '}{one['cause']}.")
        lines.append(f"  Next: {one['next_step']}.")
    return "".join(f"{line}\n" for line in lines)


def _kernel() -> None:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdecimal())
    if numbers < _FLOOR:
        want = ".".join(map(str, _FLOOR))
        raise BrineError(f"Linux {release} is older than {want}", f"boot a kernel from {want} on")
    if not os.access("/sys/kernel/btf/vmlinux", os.R_OK):
        raise BrineError(
            "the kernel does not describe its types", "boot one built with CONFIG_DEBUG_INFO_BTF=y"
        )


def _jit(report: Report) -> None:
    """Compiled programs are an order of magnitude faster; constant blinding costs some of it."""
    with contextlib.suppress(OSError):
        core = Path("/proc/sys/net/core")
        if core.joinpath("bpf_jit_enable").read_text(encoding="ascii").strip() == "0":
            report.note(
                "speed",
                "the kernel interprets BPF programs instead of compiling them",
                "set net.core.bpf_jit_enable=1 and restart the host",
                fatal=False,
            )
        elif core.joinpath("bpf_jit_harden").read_text(encoding="ascii").strip() == "2":
            report.note(
                "speed",
                "the kernel blinds the constants of all BPF programs, also of root's",
                "set net.core.bpf_jit_harden=1, if the host's policy allows it",
                fatal=False,
            )


def _applied(report: Report, config: Config) -> None:
    """Whether the applied state is what files say; asks the verbs themselves."""
    verbs: list[tuple[str, Callable[[], dict[str, Any]], str]] = [
        ("data path", lambda: dataplane.apply(config, check=True), "brine dataplane apply"),
        (
            "peers",
            lambda: reconcile.apply(config, config.paths.roster, check=True),
            "brine peers apply",
        ),
    ]
    for check, predict, command in verbs:
        with report.look(check):
            answer = predict()
            if answer["changed"]:
                raise BrineError(
                    f"it is not what the files in {config.paths.etc} say",
                    f"run `{command}`; with --check it shows the difference",
                )
            for text in answer.get("notes", []):
                report.note(check, text, "see docs/operations.md", fatal=False)
    left = [f"a migration was interrupted: {path}" for path in pins.unfinished(config.bpffs)]
    left += [f"former maps are past their time: {path}" for path in pins.past(config.bpffs)]
    for cause in left:
        report.note(
            "data path",
            cause,
            "run `brine dataplane apply`, which clears up",
            fatal=False,
        )


def _agreed(report: Report, config: Config) -> None:
    """Whether the host's settings and what its peers know of it are of one play. A file that
    cannot be read was noted before."""
    with contextlib.suppress(BrineError):
        own = roster.load(config.paths.roster).find(identity.load(config.paths).public)
        cause = disagreement(config, own.roaming) if own is not None else None
        if cause is not None:
            next_step = "play `site` without --limit: it brings both to what the inventory says"
            report.note("configuration", cause, next_step, fatal=False)


def _self_test(config: Config) -> None:
    """Load everything, with small maps and no pins, and compare with libsodium."""
    with contextlib.closing(loader.open_object(config.object)) as opened:
        for name, entries in loader.sizes(opened.btf, 1).items():
            opened.set_max_entries(name, entries)
        try:
            opened.load()
        except OSError as error:
            reason = str(error.strerror).strip().splitlines()
            raise BrineError(
                f"the kernel refuses the programs: {reason[0]}: {reason[-1]}",
                "look at dmesg; a container needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and"
                " lockdown must not be `confidentiality`",
            ) from None
        for what, same in (("secretbox", _secretbox(opened)), ("X25519", _x25519(opened))):
            if not same:
                raise BrineError(
                    f"{what}, as this kernel runs it, is not libsodium's",
                    "do not use brine on this host; report its kernel and architecture",
                )


@contextlib.contextmanager
def _closing(program: Program, work: Map) -> Iterator[None]:
    try:
        yield
    finally:
        program.close()
        work.close()


def _secretbox(opened: Object) -> bool:
    key, nonce = os.urandom(32), os.urandom(24)
    kind: Any = opened.btf.struct("secretbox")
    request: Any = opened.btf.struct("selftest_secretbox")()
    work = kind()
    work.subkey[:] = memoryview(keys.hsalsa20(key, nonce[:16])).cast("I")
    work.nonce = int.from_bytes(nonce[16:], "little")
    ctypes.memmove(work.text, _TEXT, len(_TEXT))
    request.operation = opened.btf.enum("selftest_operation")["SELFTEST_SEAL"]
    request.length = len(_TEXT)
    program, area = opened.program("selftest_secretbox"), opened.map("selftest_work")
    with _closing(program, area):
        area.update(_ZERO, bytes(work))
        value = program.call(request)
        area.lookup_into(_ZERO, work)
    sealed = bytes(work.tag) + bytes(work.text)[: len(_TEXT)]
    expected = nacl.secret.SecretBox(key).encrypt(_TEXT, nonce).ciphertext
    return value == 0 and request.result == 0 and sealed == expected


def _x25519(opened: Object) -> bool:
    private, public = os.urandom(32), keys.public_key(os.urandom(32))
    request: Any = opened.btf.struct("selftest_x25519")()
    ctypes.memmove(ctypes.addressof(request.private), private, 32)
    ctypes.memmove(ctypes.addressof(request.public), public, 32)
    with contextlib.closing(opened.program("selftest_x25519")) as program:
        value = program.call(request)
    expected = nacl.bindings.crypto_scalarmult(private, public)
    return value == 0 and request.result == 0 and bytes(request.shared) == expected
