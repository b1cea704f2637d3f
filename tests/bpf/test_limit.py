# SPDX-License-Identifier: GPL-3.0-or-later
"""The token buckets of bpf/limit.h, one packet at a time."""

from __future__ import annotations

import pytest

from tests.bpf import packets
from tests.bpf.host import XDP_PASS, Host, boot_ns
from tests.bpf.receiver import PEER, THEIRS, Receiver

BURST, INTERVAL_NS = 128, 10_000_000


class Bucket:
    """The peer's bucket for packets of unknown index."""

    def __init__(self, host: Host) -> None:
        self.scene = Receiver(host)
        self.host = host
        host.list_endpoint(THEIRS[4], PEER)
        self._frame = self.scene.frame(packets.data(bytes(32), bytes(16), 0xDEAD, b""))

    def fill(self, tokens: int, updated: int) -> None:
        limit = self.host.read("limits", "limit", PEER)
        limit.receive.tokens, limit.receive.updated = tokens, updated
        self.host.write("limits", PEER, limit)

    def now(self) -> tuple[int, int]:
        limit = self.host.read("limits", "limit", PEER)
        assert (limit.send.tokens, limit.send.updated) == (0, 0)
        return limit.receive.tokens, limit.receive.updated

    def take(self) -> bool:
        return self.host.open(self._frame).value == XDP_PASS


@pytest.fixture
def bucket(host: Host) -> Bucket:
    return Bucket(host)


def test_an_unused_bucket_is_full(bucket: Bucket) -> None:
    before = boot_ns()
    assert bucket.take()
    tokens, updated = bucket.now()
    assert tokens == BURST - 1
    assert before <= updated <= boot_ns()


def test_an_empty_one_refuses_and_stays_empty(bucket: Bucket) -> None:
    ahead = boot_ns() + 10**12  # nothing is earned meanwhile
    bucket.fill(1, ahead)
    assert [bucket.take() for _ in range(4)] == [True, False, False, False]
    assert bucket.now() == (0, ahead)


def test_a_later_now_of_another_cpu_earns_nothing(bucket: Bucket) -> None:
    """A difference below zero is a very large one, unsigned."""
    ahead = boot_ns() + 10**9
    bucket.fill(0, ahead)
    assert not bucket.take()
    assert bucket.now() == (0, ahead)


def test_what_is_left_of_an_interval_is_not_lost(bucket: Bucket) -> None:
    since = boot_ns() - 25 * INTERVAL_NS // 10
    bucket.fill(0, since)
    assert bucket.take()
    tokens, updated = bucket.now()
    earned = tokens + 1
    assert earned >= 2
    assert updated == since + earned * INTERVAL_NS


def test_it_never_holds_more_than_the_burst(bucket: Bucket) -> None:
    bucket.fill(BURST, boot_ns() - 10**9)
    assert bucket.take()
    assert bucket.now()[0] == BURST - 1
