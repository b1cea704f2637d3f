# SPDX-License-Identifier: GPL-3.0-or-later
"""The replay window, through `open` with real packets and on two CPUs at once."""

from __future__ import annotations

import struct
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bpf import packets
from tests.bpf.host import XDP_REDIRECT, Host, on_cpu
from tests.bpf.loaded import Loaded
from tests.bpf.receiver import ASSOCIATION, INSIDE, PEERS_OWN, Receiver

WINDOW = 2016  # counters accepted beside the highest: 2048 bits less a word, RFC 6479
LIMIT = 2**40


class Window:
    """One lane of one association, as a peer that repeats itself meets it."""

    def __init__(self, scene: Receiver, lane: int = 0) -> None:
        self.scene = scene
        self.lane = lane
        self._text = packets.ipv4(PEERS_OWN[4], INSIDE[4], b"", protocol=99)

    def offer(self, counter: int) -> bool:
        """Whether a packet of that counter is delivered."""
        if counter >> 56:
            raise ValueError("libsodium's nonce has no room for it")
        message = self.scene.data(self._text, lane=self.lane, counter=counter)
        run = self.scene.host.open(self.scene.frame(message))
        return run.value == XDP_REDIRECT


class Model:
    """What protocol.md says: each counter once, and none that is WINDOW below the highest."""

    def __init__(self) -> None:
        self.highest = 0
        self.seen: set[int] = set()

    def offer(self, counter: int) -> bool:
        if counter >= LIMIT or counter in self.seen or self.highest - counter >= WINDOW:
            return False
        self.seen.add(counter)
        self.highest = max(self.highest, counter)
        return True


@pytest.fixture
def window(host: Host) -> Window:
    return Window(Receiver(host))


# The sequences of WireGuard's drivers/net/wireguard/selftest/counter.c. Its window accepts
# COUNTER_WINDOW_SIZE below the highest, ours WINDOW - 1; so its T_LIM, one more, is WINDOW.

T = WINDOW
STEPS = [
    (0, True),
    (1, True),
    (1, False),
    (9, True),
    (8, True),
    (7, True),
    (7, False),
    (T, True),
    (T - 1, True),
    (T - 1, False),
    (T - 2, True),
    (2, True),
    (2, False),
    (T + 16, True),
    (3, False),
    (T + 16, False),
    (T * 4, True),
    (T * 4 - (T - 1), True),
    (10, False),
    (T * 4 - T, False),
    (T * 4 - (T + 1), False),
    (T * 4 - (T - 2), True),
    (T * 4 + 1 - T, False),
    (0, False),
    (LIMIT, False),
    (LIMIT - 1, True),
    (LIMIT, False),
    (LIMIT - 1, False),
    (LIMIT - 2, True),
    (LIMIT + 1, False),
    (LIMIT + 2, False),
    (LIMIT - 2, False),
    (LIMIT - 3, True),
    (0, False),
]


def test_wireguards_steps(window: Window) -> None:
    for number, (counter, expected) in enumerate(STEPS, 1):
        assert window.offer(counter) == expected, number


RUNS = {
    "rising from 1, then 0": ([*range(1, T), 0], [(0, False)]),
    "rising from 2, then 1": ([*range(2, T + 1), 1], [(0, False)]),
    "falling to 0": ([*range(T - 1, -1, -1)], []),
    "falling to 1": ([*range(T, 0, -1)], [(0, False)]),
    "falling to 1, then one more": ([*range(T - 1, 0, -1), T], [(0, False)]),
    "falling to 1, then 0, then one more": ([*range(T - 1, 0, -1), 0, T], []),
}


@pytest.mark.parametrize("name", RUNS)
def test_wireguards_runs(window: Window, name: str) -> None:
    accepted, then = RUNS[name]
    for counter in accepted:
        assert window.offer(counter), counter
    for counter, expected in then:
        assert window.offer(counter) == expected
    for counter in accepted[:: T // 20]:
        assert not window.offer(counter)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    start=st.sampled_from([0, 1, 31, 32, 2**20 - 7, LIMIT - 5000]),
    steps=st.lists(
        st.one_of(
            st.integers(-40, 40),
            st.integers(-WINDOW - 40, -WINDOW + 40),
            st.integers(2048 - 40, 2048 + 40),
            st.integers(-2048 - 33, 2048 * 3),
        ),
        max_size=40,
    ),
)
def test_the_window_is_the_model(loaded: Loaded, start: int, steps: list[int]) -> None:
    """`steps` are counted from the highest so far."""
    host = Host(loaded)
    try:
        window, model = Window(Receiver(host)), Model()
        for step in [0, *steps]:
            counter = max(0, (model.highest or start) + step)
            assert window.offer(counter) == model.offer(counter), counter
    finally:
        host.close()


def test_lanes_have_windows_of_their_own(host: Host) -> None:
    scene = Receiver(host)
    for lane in range(16):
        assert Window(scene, lane).offer(5)
        assert not Window(scene, lane).offer(5)
    assert Window(scene, 0).offer(10**9)
    assert Window(scene, 1).offer(4)


def test_a_forged_packet_does_not_move_the_window(window: Window) -> None:
    scene = window.scene
    message = bytearray(scene.data(scene.inner(), counter=10**9))
    message[-1] ^= 1
    scene.host.open(scene.frame(bytes(message)))
    assert scene.host.stats() == {"open_forged": 1}
    assert window.offer(0)
    words = memoryview(scene.host.value("windows", ASSOCIATION * 4)).cast("Q")
    assert words[0] == 0


def test_a_word_of_a_newer_turn_refuses_though_highest_lags(window: Window) -> None:
    """Between one CPU's mark and its step of `highest`, another brings an old counter."""
    host = window.scene.host
    windows = host.read("windows", "windows", ASSOCIATION * 4)
    windows.lane[0].words[1] = 5 << 32 | 1
    host.write("windows", ASSOCIATION * 4, windows)
    assert not window.offer(4 * 2048 + 33)
    assert not window.offer(5 * 2048 + 32)  # its bit is set
    assert window.offer(5 * 2048 + 33)
    assert host.read("windows", "windows", ASSOCIATION * 4).lane[0].words[1] == 5 << 32 | 3


def test_a_replay_is_counted(window: Window) -> None:
    window.offer(3)
    window.scene.host.stats()
    window.offer(3)
    assert window.scene.host.stats() == {"open_replay": 1}


# Two CPUs on one window


COUNTERS = 1 << 15


@pytest.mark.parametrize("order", [0, 1, 7, 31, 63, 511, 1023])
def test_two_cpus_accept_each_counter_once(loaded: Loaded, order: int) -> None:
    """Both run through the same counters; `order` shuffles the second one's within the
    window, so that they meet in one word, or one overtakes the other."""
    windows = loaded.map("selftest_windows")
    accepted = loaded.map("selftest_accepted")
    program = loaded.program("selftest_replay")
    for turn in range(4):
        windows.update(bytes(4), bytes(windows.value_size))
        for number in range(COUNTERS):
            accepted.update(struct.pack("<I", number), bytes(8))
        start = threading.Barrier(2)
        totals = [0, 0]

        def run(cpu: int, start: threading.Barrier = start, totals: list[int] = totals) -> None:
            request = loaded.struct("selftest_replay")()
            request.lane, request.count, request.order = 3, COUNTERS, order if cpu else 0
            with on_cpu(cpu):
                start.wait()
                assert program.call(request) == 0
            totals[cpu] = request.accepted

        threads = [threading.Thread(target=run, args=(cpu,)) for cpu in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with accepted.map_memory() as memory:
            counts = memoryview(memory).cast("Q").tolist()
        assert max(counts) == 1, turn
        assert sum(counts) == sum(totals)
        # None is lost either: whichever CPU is ahead takes it.
        assert counts.count(0) == 0, turn
