# SPDX-License-Identifier: GPL-3.0-or-later
"""`brined`: the entry point, the signals, and what it says to the service manager."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

import brine
from brine import config as configuration
from brine.config import Paths
from brine.daemon import privileges
from brine.daemon.journal import INFO, LEVELS, Log
from brine.daemon.notify import Notifier
from brine.daemon.ratchet import REKEY_INTERVAL
from brine.daemon.service import Service
from brine.daemon.settings import credentials, members
from brine.daemon.timers import SECOND
from brine.errors import BrineError
from brine.former import Formers
from brine.maps import Maps, StaleMaps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal ends it; the exit status."""
    options = _parser().parse_args(arguments)
    log = Log(LEVELS[options.log_level])
    notifier = Notifier(os.environ)
    paths = Paths(etc=options.etc, state=options.state, run=options.run)
    privileges.no_core_dumps()
    try:
        with _alone(paths), _signals() as signals:
            _serve(paths, log, notifier, signals, options.rekey_interval * SECOND)
    except StaleMaps:
        log.info("ends, for the service manager to start it with the new maps")
    except BrineError as error:
        log.error("cannot run", cause=error.cause, next_step=error.next_step)
        notifier.failed(f"{error.cause}. {error.next_step}")
        return 1
    notifier.stopping()
    log.info("stopped")
    return 0


def _parser() -> argparse.ArgumentParser:
    usual = Paths()
    parser = argparse.ArgumentParser(
        prog="brined", description="The exchange daemon of the brine mesh. It stays in front."
    )
    parser.add_argument("--version", action="version", version=brine.__version__)
    parser.add_argument("--log-level", choices=sorted(LEVELS), default=_name_of(INFO))
    parser.add_argument(
        "--rekey-interval",
        type=_rekey_interval,
        default=REKEY_INTERVAL // SECOND,
        metavar="SECONDS",
        help="age at which an association key is replaced, if data flows (%(default)s)",
    )
    for name, where in (("etc", usual.etc), ("state", usual.state), ("run", usual.run)):
        parser.add_argument(
            f"--{name}", type=type(where), default=where, metavar="DIRECTORY", help=f"not {where}"
        )
    return parser


def _rekey_interval(text: str) -> int:
    """Keys may be replaced every 20 s at most, and stop sending at 300 s."""
    seconds = int(text)
    if not 0 < seconds <= 240:
        raise argparse.ArgumentTypeError("takes 1 to 240")
    return seconds


def _name_of(level: int) -> str:
    return next(name for name, value in LEVELS.items() if value == level)


def _serve(
    paths: Paths, log: Log, notifier: Notifier, signals: Signals, rekey_interval: int
) -> None:
    """Open everything and run until a signal.

    :raises StaleMaps: once the maps are no longer the host's, also while it begins anew.
    """
    config = configuration.load(paths)
    accepted = credentials(paths)
    roster = members(paths)
    with Maps.of(config) as maps, Formers(config.bpffs, config.paths.control_lock) as formers:
        # Reading the maps' BTF took CAP_SYS_ADMIN, and nothing from here on does.
        privileges.keep(_NEEDED)
        again = True
        while again and not maps.stale():
            service = Service(
                config, maps, formers, accepted, roster, log, notifier, rekey_interval
            )
            with contextlib.closing(service):
                service.start()
                signals.attach(service)
                notifier.ready()
                service.run()
                signals.detach(service)
            again = service.again
            config, accepted, roster = service.settings
    if again:
        raise StaleMaps


_NEEDED = (privileges.NET_ADMIN, privileges.NET_RAW, privileges.BPF)
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """SIGTERM and SIGINT end the loop, SIGHUP has all files read again. They arrive through a
    descriptor, so that nothing is interrupted half-way."""

    def __init__(self, arrived: socket.socket) -> None:
        self._arrived = arrived

    def attach(self, service: Service) -> None:
        service.loop.watch(self._arrived, lambda: self._handle(service))

    def detach(self, service: Service) -> None:
        service.loop.forget(self._arrived)

    def _handle(self, service: Service) -> None:
        for number in self._arrived.recv(64):
            if number in _ENDING:
                service.stop()
            elif number == signal.SIGHUP:
                service.reload()


@contextlib.contextmanager
def _signals() -> Iterator[Signals]:
    def ignore(_number: int, _frame: FrameType | None) -> None:
        """The descriptor has it."""

    handled = (*_ENDING, signal.SIGHUP)
    arrived, sender = socket.socketpair()
    with arrived, sender:
        sender.setblocking(False)
        former = {number: signal.signal(number, ignore) for number in handled}
        wakeup = signal.set_wakeup_fd(sender.fileno())
        try:
            yield Signals(arrived)
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in former.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _alone(paths: Paths) -> Iterator[None]:
    """At most one daemon on a host: two would fight for the events."""
    try:
        paths.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(
            paths.run / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise BrineError(
            f"{error.filename} cannot be made: {error.strerror}", "run brined as root"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BrineError(
            "another brined runs on this host", "stop it first: systemctl stop brined"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
