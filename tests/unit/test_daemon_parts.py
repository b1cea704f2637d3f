# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's small parts: timers, timestamps, state, hold queue, indices, logs, notification."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brine import keys
from brine.daemon import journal
from brine.daemon.hold import HoldQueue
from brine.daemon.indices import REST, Indices
from brine.daemon.journal import DEBUG, INFO, Log
from brine.daemon.notify import Notifier
from brine.daemon.state import State, StateFile, credentials
from brine.daemon.timers import SECOND, Timers
from brine.daemon.timestamps import (
    PROVISIONAL,
    RESERVE,
    Floors,
    OwnTimestamps,
    Verdict,
    decode,
    encode,
)
from brine.errors import BrineError


class Clock:
    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        return self.now


# Timers


def test_timers_run_in_order_and_can_be_cancelled() -> None:
    clock = Clock()
    timers = Timers(clock)
    ran: list[str] = []
    timers.at(1300, lambda: ran.append("third"))
    timers.at(1100, lambda: ran.append("first"))
    cancelled = timers.at(1150, lambda: ran.append("never"))
    timers.after(200, lambda: ran.append("second"))
    cancelled.cancel()
    assert timers.next_deadline() == 1100
    timers.run_due()
    assert ran == []
    clock.now = 1250
    timers.run_due()
    assert ran == ["first", "second"]
    clock.now = 2000
    timers.run_due()
    assert ran == ["first", "second", "third"]
    assert timers.next_deadline() is None
    cancelled.cancel()


def test_a_timer_may_set_another() -> None:
    clock = Clock()
    timers = Timers(clock)
    ran: list[int] = []

    def again() -> None:
        ran.append(clock.now)
        timers.after(100, again)

    again()
    for now in range(1000, 1500, 50):
        clock.now = now
        timers.run_due()
    assert ran == [1000, 1100, 1200, 1300, 1400]


# Timestamps


def test_tai64n_of_the_libtai_page() -> None:
    # cr.yp.to/libtai/tai64.html: 1970-01-01 00:00:00 UTC is ten seconds into 1970 TAI.
    assert encode(0).hex() == "400000000000000a00000000"
    assert encode(1_500_000_001).hex() == "400000000000000b1dcd6501"


@given(st.integers(min_value=0, max_value=1 << 62), st.integers(min_value=0, max_value=1 << 62))
def test_tai64n_compares_as_bytes(one: int, other: int) -> None:
    assert (encode(one) < encode(other)) == (one < other)
    assert decode(encode(one)) == one


@pytest.mark.parametrize("stamp", [b"", bytes(11), b"\xff" * 12])
def test_malformed_tai64n_is_refused(stamp: bytes) -> None:
    with pytest.raises(ValueError, match="TAI64N"):
        decode(stamp)


def test_own_timestamps_rise_though_the_clock_falls_and_the_host_restarts() -> None:
    written: list[int] = []
    wall = [10 * SECOND]
    own = OwnTimestamps(0, written.append, lambda: wall[0])
    stamps = [own.next()]
    wall[0] -= 5 * SECOND
    stamps += [own.next() for _ in range(1000)]
    assert len(written) == 1  # reserved ahead, not written for each
    after_a_crash = OwnTimestamps(written[-1], written.append, lambda: wall[0])
    stamps.append(after_a_crash.next())
    assert stamps == sorted(set(stamps))


def test_own_timestamp_is_on_disk_before_it_is_used() -> None:
    written: list[int] = []
    own = OwnTimestamps(0, written.append, lambda: 7 * SECOND)
    assert decode(own.next()) <= written[-1] == 7 * SECOND + RESERVE

    def fails(_stamp: int) -> None:
        raise OSError("disk full")

    broken = OwnTimestamps(0, fails, lambda: 7 * SECOND)
    with pytest.raises(OSError, match="disk full"):
        broken.next()


def test_floors() -> None:
    clock = Clock()
    floors = Floors({b"a": encode(100)}, clock)
    assert floors.judge(b"b", encode(1)) is Verdict.FRESH
    assert floors.judge(b"a", encode(99)) is Verdict.BELOW
    assert floors.judge(b"a", encode(100)) is Verdict.REPLAYED
    assert floors.judge(b"a", encode(101)) is Verdict.FRESH
    floors.hold(b"a", encode(200))
    assert floors.judge(b"a", encode(200)) is Verdict.REPLAYED
    assert floors.judge(b"a", encode(199)) is Verdict.BELOW
    clock.now += PROVISIONAL
    assert floors.judge(b"a", encode(199)) is Verdict.FRESH
    assert not floors.dirty
    floors.confirm(b"a", encode(300))
    assert floors.dirty
    floors.confirm(b"a", encode(250))
    assert floors.judge(b"a", encode(299)) is Verdict.BELOW
    floors.keep_only(set())
    assert floors.judge(b"a", encode(299)) is Verdict.BELOW  # confirmed ones stay


# State


def test_state_file_round_trip(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    assert file.read() == State()
    state = State(
        17 * SECOND + 3,
        {b"\1" * 32: encode(5)},
        frozenset({credentials(b"\2" * 32, b"\3" * 32), credentials(b"\4" * 32, b"\3" * 32)}),
        {0xFFFFFFFE: (b"\2" * 32, b"\1" * 32)},
    )
    file.write(state)
    file.write(state)
    assert file.read() == state
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_state_file_that_cannot_be_written_keeps_the_old_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    file.write(State(reserved=5 * SECOND))
    (tmp_path / ".state.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        file.write(State(reserved=6 * SECOND))
    assert file.read().reserved == 5 * SECOND


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', '{"version": 1, "reserved": "00", "credentials": ""}'],
)
def test_malformed_state_is_said_to_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(BrineError, match="malformed"):
        StateFile(path).read()


def test_credentials_tell_identities_and_secrets_apart() -> None:
    names = {credentials(bytes((i,)) * 32, bytes((s,)) * 32) for i in (1, 2) for s in (0, 1)}
    assert len(names) == 4
    assert all(len(name) == 32 for name in names)


def test_state_holds_no_secret(tmp_path: Path) -> None:
    secret = os.urandom(32)
    file = StateFile(tmp_path / "state.json")
    file.write(State(credentials=frozenset({credentials(b"\1" * 32, secret)})))
    text = file.path.read_text()
    assert secret.hex() not in text
    assert keys.show_key(secret) not in text
    assert set(json.loads(text)) == {"version", "reserved", "credentials", "floors", "made_with"}


# Hold queue


def test_hold_queue_gives_packets_back_in_order() -> None:
    queue = HoldQueue()
    queue.add(1, b"a")
    queue.add(2, b"b")
    queue.add(1, b"c")
    assert queue.count(1) == 2
    assert queue.take(1) == [b"a", b"c"]
    assert queue.take(1) == []
    assert queue.take(2) == [b"b"]
    assert queue.bytes == 0


def test_hold_queue_drops_the_oldest() -> None:
    queue = HoldQueue(per_peer=2, total_bytes=10)
    for packet in (b"111", b"222", b"333"):
        queue.add(1, packet)
    assert queue.dropped == 1
    queue.add(2, b"44444")  # 6 + 5 > 10: the oldest of all, 222, goes
    assert queue.take(1) == [b"333"]
    assert queue.take(2) == [b"44444"]
    queue.add(3, b"x" * 11)
    assert queue.take(3) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.booleans()), max_size=60))
def test_hold_queue_keeps_its_bounds(steps: list[tuple[int, int, bool]]) -> None:
    queue = HoldQueue(per_peer=3, total_bytes=12)
    added = taken = 0
    for peer, size, take in steps:
        if take:
            taken += len(queue.take(peer))
        else:
            queue.add(peer, bytes(size))
            added += 1
        counts = [queue.count(number) for number in range(4)]
        assert max(counts) <= 3
        assert queue.bytes <= 12
        assert sum(counts) + taken + queue.dropped == added


# Indices


def test_indices_are_unique_and_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    indices = Indices(clock)
    drawn = iter([0, 5, 5, 6, 5, 7, 5])
    monkeypatch.setattr("secrets.randbits", lambda bits: next(drawn))
    assert indices.allot() == 5  # never 0
    assert indices.allot() == 6
    indices.release(5)
    assert indices.allot() == 7
    clock.now += REST
    assert indices.allot() == 5


def test_adopted_indices_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    indices = Indices(Clock())
    indices.adopt(9)
    drawn = iter([9, 10])
    monkeypatch.setattr("secrets.randbits", lambda bits: next(drawn))
    assert indices.allot() == 10


# Logs


def test_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(INFO, {})
    log.info("peer moved", peer="lab1", endpoint="192.0.2.1:4747", why="it is 'new' = \"x\"\n")
    log.debug("not shown")
    assert capsys.readouterr().err == (
        "<6>peer moved peer=lab1 endpoint=192.0.2.1:4747 why=\"it is 'new' = 'x'?\"\n"
    )


def test_log_of_one_event_is_bounded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    log = Log(DEBUG, {})
    for _ in range(1000):
        log.debug("refused")
    log.error("other")
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("<7>refused") == 20
    assert "<3>other" in lines
    now[0] += 10
    log.debug("refused")
    assert capsys.readouterr().err == "<7>refused suppressed=980\n"


def test_journal_protocol() -> None:
    assert journal.encode({"A": "b", "MESSAGE": "two\nlines"}) == (
        b"A=b\nMESSAGE\n" + struct.pack("<Q", 9) + b"two\nlines\n"
    )


def test_journal_gets_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        monkeypatch.setattr(journal, "_JOURNAL", path)
        status = os.fstat(2)
        log = Log(INFO, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        log.warning("exchange given up", peer="lab2")
        fields = dict(line.split("=", 1) for line in listener.recv(4096).decode().splitlines())
    assert fields == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "brined",
        "MESSAGE": "exchange given up peer=lab2",
        "BRINE_EVENT": "exchange given up",
        "BRINE_PEER": "lab2",
    }


# The service manager


def test_notifications(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"}
        notifier = Notifier({**environment, "WATCHDOG_PID": str(os.getpid())})
        assert notifier.watchdog_interval == 15 * SECOND
        notifier.ready()
        notifier.status("two peers")
        notifier.alive()
        notifier.stopping()
        notifier.failed("no")
        said = [listener.recv(4096).decode() for _ in range(5)]
    assert said == ["READY=1", "STATUS=two peers", "WATCHDOG=1", "STOPPING=1", "STATUS=no\nERRNO=1"]
    assert Notifier({**environment, "WATCHDOG_PID": "1"}).watchdog_interval is None


def test_without_a_service_manager_nobody_is_told() -> None:
    notifier = Notifier({})
    assert notifier.watchdog_interval is None
    notifier.ready()
    notifier.alive()
