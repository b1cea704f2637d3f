# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of two layouts at work at once: what the newer ones have no association for goes
through the former ones, and what those cannot seal comes back (bpf/former.h)."""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections.abc import Callable, Iterator

import pytest

from brine.libbpf import Run
from tests.bpf import packets
from tests.bpf.host import (
    PORT,
    TC_REDIRECT,
    TC_SHOT,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    Host,
    on_cpu,
)
from tests.bpf.loaded import Loaded, load
from tests.bpf.other_layout import build_other_layout
from tests.bpf.receiver import ASSOCIATION as OPENING
from tests.bpf.receiver import INSIDE, THEIRS, Receiver
from tests.bpf.sender import ASSOCIATION as SEALING
from tests.bpf.sender import PEER, Sender
from tests.bpf.test_seal import keepalive

SLOT = bytes(4)
SLOTS = ("former_seal", "former_open", "successor")


@pytest.fixture(scope="module")
def loaded_former(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """Of another layout."""
    made = load(build_other_layout(tmp_path_factory.mktemp("other_layout")))
    yield made
    made.close()


def hand_on(newer: Loaded, former: Loaded) -> None:
    """As brine.former.link does."""
    for programs, slot, program in (
        (newer, "former_seal", former.program("seal")),
        (newer, "former_open", former.program("open")),
        (former, "successor", newer.program("punt")),
    ):
        programs.map(slot).update(SLOT, struct.pack("<I", program.fd))


@contextlib.contextmanager
def following(*loads: Loaded) -> Iterator[list[Host]]:
    """Hosts of these loads, the newest first, each of which took the place of the next."""
    hosts = [Host(one) for one in loads]
    for newer, former in itertools.pairwise(loads):
        hand_on(newer, former)
    try:
        yield hosts
    finally:
        for host in hosts:
            for slot in SLOTS:
                host.loaded.map(slot).delete(SLOT)
            host.close()


@pytest.fixture
def both(loaded: Loaded, loaded_former: Loaded) -> Iterator[list[Host]]:
    with following(loaded, loaded_former) as hosts:
        yield hosts


def test_the_layouts_differ(loaded: Loaded, loaded_former: Loaded) -> None:
    """Or the tests below would show less than they seem to."""
    layouts = [one.enum("layout")["LAYOUT_VERSION"] for one in (loaded, loaded_former)]
    assert layouts[0] != layouts[1]
    for name, field in (("association", "secret"), ("box", "index"), ("config", "port")):
        offsets = {getattr(one.struct(name), field).offset for one in (loaded, loaded_former)}
        assert len(offsets) == 2, name


def seal(host: Host, inner: bytes) -> Run:
    with on_cpu(0):
        return host.seal(packets.ethernet(inner))


def without(sender: Sender) -> Sender:
    """Its association is gone: routes and peers alone are left."""
    assert sender.host.erase(SEALING) == "DONE"
    return sender


def nothing_but(hosts: list[Host], who: Host, stats: dict[str, int]) -> None:
    """Of these hosts only `who` has counted, and that."""
    assert [host.stats() for host in hosts] == [stats if host is who else {} for host in hosts]


# What is sealed


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", [0, 100, 1372])
def test_what_has_an_association_there_only_is_sealed_there(
    both: list[Host], family: int, size: int
) -> None:
    newer, former = both
    without(Sender(newer, family))
    scene = Sender(former, family)
    for counter in range(2):
        text = scene.inner(family, os.urandom(size))
        run = seal(newer, text)
        assert run.value == TC_REDIRECT
        assert run.data[14:] == scene.expected(text, run.data[14:], counter=counter)
        nothing_but(both, former, {"seal_ok": 1})


def test_the_newer_association_comes_first(both: list[Host]) -> None:
    newer, former = both
    scene = Sender(newer)
    Sender(former)
    run = seal(newer, text := scene.inner())
    assert run.value == TC_REDIRECT
    assert scene.text(run.data[14:]) == text
    nothing_but(both, newer, {"seal_ok": 1})


def no_association(former: Host) -> None:
    assert former.erase(SEALING) == "DONE"


def no_route(former: Host) -> None:
    """The former tables are older."""
    for key in list(former.loaded.map("routes").keys()):
        former.loaded.map("routes").delete(key)


def box_ended(former: Host) -> None:
    boxes = former.loaded.enum("map_size")["BOXES_PER_ASSOCIATION"]
    box = former.read("boxes", "box", SEALING * boxes)
    assert box.not_after > 1
    box.not_after = 1
    former.write("boxes", SEALING * boxes, box)


def exhausted(former: Host) -> None:
    former.set_counter(SEALING, 1 << 40, 0)


@pytest.mark.parametrize("change", [no_association, no_route, box_ended, exhausted])
def test_what_cannot_be_sealed_there_reaches_the_daemon_that_there_is(
    both: list[Host], change: Callable[[Host], None]
) -> None:
    newer, former = both
    scene = without(Sender(newer))
    Sender(former)
    change(former)
    assert seal(newer, text := scene.inner()).value == TC_SHOT
    nothing_but(both, newer, {"seal_no_box": 1})
    assert newer.events() == [("EVENT_PUNT_SEND", PEER, 0, text)]
    assert former.events() == []


def test_what_is_for_nobody_goes_nowhere(both: list[Host]) -> None:
    newer, former = both
    without(Sender(newer))
    Sender(former)
    no_route(newer)
    assert seal(newer, packets.udp_packet(INSIDE[4], "10.77.0.2", b"")).value == TC_SHOT
    nothing_but(both, newer, {"seal_no_route": 1})
    assert newer.events() == former.events() == []


def test_requests_of_the_daemon_stay_here(both: list[Host]) -> None:
    """They name peers by numbers of the newer maps."""
    newer, former = both
    without(Sender(newer))
    Sender(former)
    assert seal(newer, keepalive(PEER)).value == TC_SHOT
    nothing_but(both, newer, {"seal_no_box": 1})


def test_empty_slots_hand_nothing_on(both: list[Host]) -> None:
    newer, former = both
    scene = without(Sender(newer))
    Sender(former)
    for host in both:
        for slot in SLOTS:
            host.loaded.map(slot).delete(SLOT)
    assert seal(newer, text := scene.inner()).value == TC_SHOT
    nothing_but(both, newer, {"seal_no_box": 1})
    assert newer.events() == [("EVENT_PUNT_SEND", PEER, 0, text)]


# What is opened


def opened_by(hosts: list[Host], who: Host, run: Run, expected: bytes) -> None:
    assert run.value == XDP_REDIRECT
    assert run.data == expected
    nothing_but(hosts, who, {"open_ok": 1})


@pytest.mark.parametrize("family", [4, 6])
def test_what_names_a_former_association_is_opened_there_once(
    both: list[Host], family: int
) -> None:
    newer, former = both
    Receiver(newer)
    assert newer.erase(OPENING) == "DONE"
    scene = Receiver(former)
    text = scene.inner(family)
    frame = scene.frame(scene.data(text, counter=7), family)
    opened_by(both, former, newer.open(frame), scene.delivered(text))
    assert newer.open(frame).value == XDP_DROP
    nothing_but(both, former, {"open_replay": 1})


def test_an_index_of_the_newer_maps_never_reaches_the_former(both: list[Host]) -> None:
    newer, former = both
    scene, other = Receiver(newer), Receiver(former)  # of the same index
    opened_by(
        both, newer, newer.open(scene.frame(scene.data(text := scene.inner()))),
        scene.delivered(text),
    )  # fmt: skip
    assert newer.open(other.frame(other.data(other.inner(), counter=1))).value == XDP_DROP
    nothing_but(both, newer, {"open_forged": 1})


@pytest.mark.parametrize("listed", [False, True])
def test_what_nobody_knows_is_a_strangers(both: list[Host], listed: bool) -> None:
    """From a peer's address it reaches the daemon's socket, as ever."""
    newer, former = both
    for host in both:
        scene = Receiver(host)
        assert host.erase(OPENING) == "DONE"
        if listed:
            host.list_endpoint(THEIRS[4], 2)
    run = newer.open(scene.frame(scene.data(scene.inner())))
    assert run.value == (XDP_PASS if listed else XDP_DROP)
    nothing_but(both, former, {"open_pass_unknown" if listed else "open_unknown_index": 1})


@pytest.mark.parametrize("kind", ["forged", "in the clear", "an exchange"])
def test_what_is_refused_is_refused(both: list[Host], kind: str) -> None:
    newer, former = both
    Receiver(newer)
    assert newer.erase(OPENING) == "DONE"
    scene = Receiver(former)
    if kind == "forged":
        message = scene.data(scene.inner())
        frame, who, reason = scene.frame(message[:-1] + bytes([message[-1] ^ 1])), former, "forged"
    elif kind == "in the clear":
        frame, who, reason = packets.ethernet(scene.inner()), newer, "plaintext"
    else:
        frame, who, reason = scene.frame(b"\1\0\0\0" + bytes(1380)), newer, "mac1"
    assert newer.open(frame).value == XDP_DROP
    nothing_but(both, who, {f"open_{reason}": 1})


# Three, as after an upgrade that was taken back


def test_each_hands_on_to_the_one_before(
    loaded: Loaded, loaded_former: Loaded, loaded_other: Loaded
) -> None:
    with following(loaded, loaded_former, loaded_other) as hosts:
        newest, _middle, oldest = hosts
        for host in hosts[:2]:
            without(Sender(host))
        scene = Sender(oldest)
        run = seal(newest, text := scene.inner())
        assert run.value == TC_REDIRECT
        assert scene.text(run.data[14:]) == text
        nothing_but(hosts, oldest, {"seal_ok": 1})

        no_association(oldest)
        assert seal(newest, text).value == TC_SHOT
        nothing_but(hosts, newest, {"seal_no_box": 1})
        assert newest.events() == [("EVENT_PUNT_SEND", PEER, 0, text)]


def test_three_open_what_the_oldest_knows(
    loaded: Loaded, loaded_former: Loaded, loaded_other: Loaded
) -> None:
    with following(loaded, loaded_former, loaded_other) as hosts:
        newest, _middle, oldest = hosts
        for host in hosts[:2]:
            Receiver(host)
            assert host.erase(OPENING) == "DONE"
        scene = Receiver(oldest)
        frame = scene.frame(scene.data(text := scene.inner()), ports=(50000, PORT))
        opened_by(hosts, oldest, newest.open(frame), scene.delivered(text))
