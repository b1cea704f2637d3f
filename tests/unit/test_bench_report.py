# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench's report says what the raw values say, and the bench stays out of releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import breakdown, chart, report, samples
from bench.targets import Target, all_targets

ROOT = Path(__file__).parents[2]
MACHINE = {
    "processor": "a processor", "cpus": 2, "memory": 1 << 34, "kernel": "6.12",
    "architecture": "x86_64", "versions": {"python": "3.11"},
}  # fmt: skip


def tunnel(name: str, number: int, tcp: float, **more: float) -> dict[str, Any]:
    figures = {"tcp2": tcp, "packets": 1e5, "rtt": 20.0, "cpu": 5.0, "memory": 0, "map_memory": 0}
    entry = {"round": number, "placement": "placed", "name": name, "tcp1": tcp}
    return {**figures, **entry, **more}


@pytest.fixture
def data() -> dict[str, Any]:
    """Three rounds of a machine that gets slower; ratios stay."""
    rounds = [(0, 1.0), (1, 0.5), (2, 0.25)]
    return {
        "machine": MACHINE,
        "measured": {"tunnels": {"when": "today", "commit": "abc", "rounds": 3, "load": 0.1}},
        "failures": [],
        "tunnels": [
            entry
            for number, speed in rounds
            for entry in (
                tunnel("plain veth", number, 10 * speed, rtt=10.0),
                tunnel("brine", number, 1.4 * speed, rtt=25.1, cpu=4.0),
                tunnel("wireguard-go", number, 2.0 * speed),
                tunnel("tinc", number, 1.0 * speed, cpu=4.0),
                tunnel("nebula", number, 0.5 * speed),
            )
        ],
        "scaling": [
            {"round": 0, "peers": 10, "daemon": 30e6, "maps": 30e6, "tcp": 1.0},
            {"round": 0, "peers": 1000, "daemon": 31e6, "maps": 90e6, "tcp": 1.0},
        ],
    }


def find(data: dict[str, Any], what: str) -> Target:
    (found,) = [target for target in all_targets(data) if target.what == what]
    return found


def test_ratios_are_of_the_same_round(data: dict[str, Any]) -> None:
    found = find(data, "TCP, one flow, each peer but wireguard-go, as placed")
    assert found.beside == "tinc"
    assert found.spread is not None
    assert found.spread.least == pytest.approx(found.spread.most) == pytest.approx(1.4)
    assert found.met
    assert find(data, "TCP, one flow, wireguard-go, as placed").met is False


def test_a_limit_that_is_to_be_undercut_is_not_met_by_itself(data: dict[str, Any]) -> None:
    found = find(data, "CPU per GB, each peer but wireguard-go, as placed")
    assert (found.beside, found.met) == ("tinc", False)
    assert find(data, "CPU per GB, wireguard-go, as placed").met


def test_differences_and_sums(data: dict[str, Any]) -> None:
    found = find(data, "round trip over plain veth's, as placed")
    assert found.spread is not None
    assert found.spread.median == pytest.approx(15.1)
    assert found.met is False
    assert find(data, "memory of a host with 10 peers, daemon and maps").met
    assert find(data, "memory of a host with 1000 peers, daemon and maps").met is False


def test_what_was_not_measured_is_not_met(data: dict[str, Any]) -> None:
    for target in all_targets({**data, "tunnels": [], "scaling": []}):
        assert target.met is None
        assert "not measured" in target.line()


def test_the_report_is_whole(data: dict[str, Any], tmp_path: Path) -> None:
    data.pop("scaling")
    data["failures"] = [{"section": "tunnels", "what": "fastd", "error": "no such thing\nat all"}]
    report.render(data, tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "| TCP, one flow, wireguard-go, as placed | ≥ 0.8 × | 0.70 (wireguard-go) |" in text
    assert "- tunnels, fastd: no such thing\n" in text
    assert "| tinc | 0.50 (0.25–1.00) |" in text
    assert chart.text(data, "placed") in text
    assert (tmp_path / "performance.png").read_bytes().startswith(b"\x89PNG")


def test_a_busy_machine_is_said_to_be_one(data: dict[str, Any]) -> None:
    run = data["measured"]["tunnels"]
    quiet, busy = ({**data, "measured": {"tunnels": {**run, "load": load}}} for load in (0.1, 3.0))
    assert "was busy" not in report.machine(quiet)
    assert "was busy" in report.machine(busy)


def test_a_packet_is_taken_apart_by_differences() -> None:
    steps = (("whole", 1420, 1000), ("no mac", 1420, 700), ("no crypto", 1420, 200))
    entries = [
        {"round": 0, "kind": "step", "program": "seal", "variant": variant, "size": size, "ns": ns}
        for variant, size, ns in (*steps, ("no crypto", 0, 150))
    ]
    lines = breakdown.parts({"profile": entries}).splitlines()
    assert "| seal | copies of the text | 50 | 5 |" in lines
    assert "| seal | XSalsa20 | 500 | 50 |" in lines
    assert "| seal | Poly1305 | 300 | 30 |" in lines


def test_what_gro_does_is_said_as_it_is() -> None:
    entry = {"round": 0, "kind": "path", "name": "brine", "segments": 1.0}
    assert "does not aggregate" in breakdown.gro({"profile": [entry]})
    assert "does aggregate" in breakdown.gro({"profile": [{**entry, "segments": 20.0}]})


def test_samples_are_classified_without_what_is_idle() -> None:
    found = samples.classified(
        "# Overhead  Symbol\n"
        "    50.00%  [k] pv_native_safe_halt\n"
        "    20.00%  [k] bpf_prog_f00d_secretbox_xor_callback\n"
        "    15.00%  [k] bpf_prog_f00d_seal\n"
        "     5.00%  [k] trie_lookup_elem\n"
        "    10.00%  [.] main\n"
    )
    assert found == pytest.approx(
        {
            "XSalsa20": 0.4,
            "seal and open without secretbox": 0.3,
            "map look-ups": 0.1,
            "user space": 0.2,
        }
    )


def test_no_release_holds_programs_without_cryptography() -> None:
    """They are the bench's: not below bpf/, and not in the collection's archive."""
    ignored = yaml.safe_load((ROOT / "galaxy.yml").read_text())["build_ignore"]
    assert "bench" in ignored
    assert not [path for path in (ROOT / "bpf").iterdir() if "no_" in path.name]
    for path in (ROOT / "bpf").glob("*.[ch]"):
        assert "bench/bpf" not in path.read_text(), path
