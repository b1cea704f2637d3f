# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators read: status, verify, probe, without a data path."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from brine import former, keys, probe, status, verify
from brine.roster import Endpoint, Entry, Roster

KEY = keys.show_key(b"\5" * 32)


def seen(**more: Any) -> dict[str, Any]:
    return {
        "host": "lab1",
        "version": "1",
        "public_key": KEY,
        "key_id": "0123456789abcdef",
        "identity": {"state": "staged", "next": "fedcba9876543210", "previous": None},
        "addresses": ["10.77.0.1"],
        "interface": "eth0",
        "xdp_mode": "native",
        "mtu": 1420,
        "port": 4747,
        "sources": ["192.0.2.1"],
        "kernel_derivation": True,
        "daemon": {"running": True, "pid": 7, "since": 1, "version": "1", "exchanges": {}},
        "former": None,
        "peers": [peer()],
        "drops": {"open_replay": 3, "open_forged": 0},
        **more,
    }


def peer(**more: Any) -> dict[str, Any]:
    return {
        "name": "lab2",
        "public_key": KEY,
        "endpoint": "192.0.2.2:4747",
        "endpoints": ["192.0.2.2:4747"],
        "roaming": False,
        "addresses": ["10.77.0.2"],
        "association": {
            "state": "confirmed",
            "age_seconds": 125.0,
            "initiated": True,
            "own_generation": 0,
            "peer_generation": 1,
            "own_key_id": "0123456789abcdef",
            "peer_key_id": "00112233445566aa",
        },
        "last_exchange_seconds": 125.0,
        "last_received_seconds": 3.2,
        "sent_packets": 1,
        "sent_bytes": 100,
        "received_packets": 2,
        "received_bytes": 3 << 20,
        **more,
    }


def test_one_screen_shows_it() -> None:
    assert (
        status.render(seen())
        == f"""\
brine0: lab1
  public key: {KEY}
  key id: 0123456789abcdef, to be followed by fedcba9876543210
  addresses: 10.77.0.1
  underlay: eth0, port 4747, native XDP
  MTU: 1420
  daemon: running, pid 7, version 1

peer: lab2
  public key: {KEY}
  endpoint: 192.0.2.2:4747
  addresses: 10.77.0.2
  association: confirmed, begun by this host 2 minutes ago, generations 0/1,\
 identities 0123456789abcdef/00112233445566aa
  last heard of: 3 seconds ago
  transfer: 3.0 MiB received, 100 B sent

dropped packets:
  open_replay: 3
"""
    )


def test_what_is_missing_is_said() -> None:
    nothing = peer(
        endpoint=None,
        endpoints=[],
        roaming=True,
        addresses=[],
        association=None,
        last_received_seconds=None,
        sent_packets=0,
        received_packets=0,
    )
    stopped = {"running": False, "pid": None, "since": None}
    text = status.render(seen(peers=[nothing], daemon=stopped, xdp_mode=None, mtu=None, drops={}))
    for line in (
        "daemon: not running: systemctl start brined",
        "MTU: the device is missing",
        "the program is not attached",
        "endpoint: not known yet (roaming)",
        "addresses: none",
        "association: none",
    ):
        assert line in text
    assert "transfer" not in text
    assert "dropped" not in text


def test_a_host_that_derives_in_a_process_says_so() -> None:
    text = status.render(seen(kernel_derivation=False))
    assert "  keys: derived when the daemon asks, not on reception\n  daemon: running" in text
    assert "derived" not in status.render(seen())


def test_former_associations_of_nobody_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of `brine peers apply` that was cut short has emptied the slot of one."""
    left = SimpleNamespace(held={3: b"\5" * 32, 4: b""}, until=0, close=lambda: None)

    def formers(*_: object) -> former.Formers:
        made = former.Formers(Path("/nowhere"), Path("/nowhere"))
        made.all.append(cast(former.Former, left))
        return made

    monkeypatch.setattr(status, "Formers", formers)
    config: Any = SimpleNamespace(bpffs=None, paths=SimpleNamespace(control_lock=None))
    shown = status.former(config, Roster((), ()))
    assert shown is not None
    assert shown["peers"] == [keys.key_id(b"\5" * 32)]


def test_an_exchange_under_way_is_shown() -> None:
    running = {"running": True, "pid": 7, "version": "1", "exchanges": {"lab2": "traffic"}}
    assert "exchange under way: traffic" in status.render(seen(daemon=running))


@pytest.mark.parametrize(
    ("used", "others"),
    [
        ("192.0.2.2:4747", ["[2001:db8::2]:4747"]),
        ("[2001:db8::2]:4747", ["192.0.2.2:4747"]),
        ("198.51.100.9:999", ["192.0.2.2:4747", "[2001:db8::2]:4747"]),  # it roams
    ],
)
def test_further_endpoints_are_shown(used: str, others: list[str]) -> None:
    listed = ["192.0.2.2:4747", "[2001:db8::2]:4747"]
    text = status.render(seen(peers=[peer(endpoint=used, endpoints=listed)]))
    lines = [line.strip() for line in text.splitlines() if "endpoint:" in line]
    assert lines == [f"endpoint: {used}", *(f"other endpoint: {other}" for other in others)]


# verify


@pytest.mark.parametrize(
    ("endpoints", "sources", "family"),
    [
        (["[2001:db8::2]:4747"], ["192.0.2.1"], "IPv6"),
        (["192.0.2.2:4747"], ["2001:db8::1"], "IPv4"),
        (["192.0.2.2:4747", "[2001:db8::2]:4747"], [], "IPv4 or IPv6"),
    ],
)
def test_no_family_in_common_is_said(endpoints: list[str], sources: list[str], family: str) -> None:
    target = verify.Target("lab2", ipaddress.ip_address("10.77.0.2"))
    one = peer(endpoint=endpoints[0], endpoints=endpoints, association=None)
    shown = seen(sources=sources, peers=[one])
    (found,) = verify._unreached([target], shown)
    assert f"{family} would be needed, of which eth0 has no address" in found["cause"]
    assert "brine_endpoint" in found["next_step"]


def test_with_a_family_in_common_every_endpoint_is_named() -> None:
    target = verify.Target("lab2", ipaddress.ip_address("10.77.0.2"))
    both = ["192.0.2.2:4747", "[2001:db8::2]:4747"]
    (found,) = verify._unreached([target], seen(peers=[peer(endpoints=both, association=None)]))
    assert "between this host and 192.0.2.2:4747 or [2001:db8::2]:4747" in found["next_step"]


def test_a_roaming_peer_never_heard_of_is_named() -> None:
    target = verify.Target("lab2", ipaddress.ip_address("10.77.0.2"))
    nowhere = peer(endpoint=None, endpoints=[], roaming=True, association=None)
    (found,) = verify._unreached([target], seen(peers=[nowhere]))
    assert found["next_step"].endswith("between this host and lab2")


def entry(number: int) -> Entry:
    return Entry(
        name=f"lab{number}",
        public_key=bytes((number,)) * 32,
        endpoints=(Endpoint(ipaddress.ip_address(f"192.0.2.{number}"), 4747),),
        addresses=(ipaddress.ip_address(f"10.77.0.{number}"),),
        allowed_ips=(),
        roaming=False,
    )


@pytest.mark.parametrize("count", [1, 3, 9])
def test_every_host_is_asked_by_as_many_as_it_asks(count: int) -> None:
    entries = [entry(number) for number in range(1, 11)]
    located = {one.name for one in entries}
    asked: dict[str, int] = {}
    for one in entries:
        assert one.public_key is not None
        others = [other for other in entries if other is not one]
        chosen = verify.choose(others, one.public_key, count, located)
        assert len(chosen) == len({peer.name for peer in chosen}) == count
        assert one not in chosen
        assert chosen == verify.choose(reversed(others), one.public_key, count, located)
        for peer_ in chosen:
            asked[peer_.name] = asked.get(peer_.name, 0) + 1
    assert set(asked.values()) == {count}


def test_peers_of_unknown_whereabouts_are_not_asked() -> None:
    chosen = verify.choose([entry(2), entry(3)], b"\1" * 32, 5, {"lab3"})
    assert [peer_.name for peer_ in chosen] == ["lab3"]


def test_checksum_of_rfc_1071() -> None:
    # The example of section 3: the sum is ddf2.
    assert verify.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF ^ 0xDDF2


def test_findings_as_text() -> None:
    answer = {
        "reached": [{"peer": "lab2", "rtt_ms": 0.25}],
        "findings": [verify.finding("daemon", "brined does not run", "start it")],
    }
    assert verify.render(answer) == (
        "lab2: answered in 0.25 ms\nerror: daemon: brined does not run.\n  Next: start it.\n"
    )


# probe


def test_probe_counts_losses_duplicates_and_latecomers() -> None:
    run = probe.Run("10.77.0.1")
    for at, number in enumerate([0, 1, 3, 2, 3, 9000, 5]):
        run.note(number, 1.0 + at / 1000)
    run.total = 9003
    report = run.report()
    assert report == {
        "source": "10.77.0.1",
        "complete": True,
        "sent": 9003,
        "received": 6,
        "lost": 8997,
        "duplicated": 1,
        "reordered": 2,
        "longest_gap_ms": pytest.approx(2.0),
    }
    assert "8997 lost, 1 duplicated, 2 reordered" in probe.render({"runs": [report]})


def test_probe_without_an_end_is_unfinished() -> None:
    run = probe.Run("10.77.0.1")
    run.note(4, 1.0)
    assert not run.report()["complete"]
    assert run.report()["lost"] == 4
    assert "unfinished" in probe.render({"runs": [run.report()]})


def test_probe_packets_have_the_documented_form() -> None:
    packed = probe._pack(1, bytes(range(16)), 2, 3)
    assert packed == b"brineprb" + bytes((1,)) + bytes(7) + bytes(range(16)) + struct.pack(
        "!QQ", 2, 3
    )
