# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons and data paths together, packet by packet."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from brine import dataplane, identity, verify
from brine.control_client import NotRunning
from brine.errors import BrineError
from brine.maps import Maps
from tests.integration.conftest import Make
from tests.integration.hosts import PORT, Host, NotReady, eventually, roster_of
from tests.integration.namespaces import Switch
from tests.integration.steps import damage_device

SECRET = b"\7" * 32


def confirmed(one: Host, two: Host) -> bool:
    """both ends have the same confirmed association"""
    here, there = one.association(two), two.association(one)
    return (
        here is not None
        and there is not None
        and here["state"] == there["state"] == "confirmed"
        and here["initiated"] != there["initiated"]
    )


@pytest.mark.parametrize("version", [4, 6])
def test_first_ping_is_answered(make: Make, version: int) -> None:
    one, two = make(2, version)
    assert one.association(two) is None
    assert one.ping(two.inner4) is not None  # a single request
    assert two.ping(one.inner6) is not None
    assert one.ping(two.inner6) is not None
    assert confirmed(one, two)
    assert one.association(two)["initiated"]  # type: ignore[index]
    assert one.status()["drops"]["seal_no_box"] == 1  # that first packet, which was held


def test_three_hosts_reach_each_other(make: Make) -> None:
    hosts = make(3, psks=[SECRET] * 3)
    for one in hosts:
        for other in hosts:
            if one is not other:
                assert one.ping(other.inner4) is not None
    for one in hosts:
        assert [peer["association"]["state"] for peer in one.status()["peers"]] == ["confirmed"] * 2
        assert SECRET.hex() not in one.log
        assert one.paths.identity.read_text().strip() not in one.log


def test_every_packet_is_counted_on_both_sides(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    sent, got = one.peer(two)["sent_packets"], two.peer(one)["received_packets"]
    answer = _probed(one, two, 1.0)
    assert answer["sent"] == 1000
    assert answer["lost"] == answer["duplicated"] == 0
    assert one.peer(two)["sent_packets"] - sent >= 1001  # and the end
    assert one.peer(two)["sent_packets"] - sent == two.peer(one)["received_packets"] - got


def _probed(one: Host, two: Host, seconds: float) -> dict[str, int]:
    """What a probe from `one` to `two` found."""
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(two.probe_receive, seconds + 30, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, seconds)
        (run,) = receiver.result()["runs"]
        assert sender.result()["runs"][0]["heard"]
    return dict(run)


def test_without_daemon_old_pairs_go_on_and_new_ones_stay_closed(
    make: Make, switch: Switch
) -> None:
    one, two, three = make(3)
    one.reach(two)
    assert one.stop() == 0
    with pytest.raises(NotRunning):
        one.ask("status")
    assert one.status()["daemon"] == {"running": False, "pid": None, "since": None}
    assert one.ping(two.inner4) is not None
    assert two.ping(one.inner4) is not None
    with switch.listen(one.port) as capture:
        for address in (three.inner4, three.inner6):
            assert one.ping(address) is None
    for frame in capture.frames:
        assert three.underlay4.ip.packed not in frame or frame[12:14] == b"\x08\x06"  # ARP
        for address in (one.inner4, three.inner4, one.inner6, three.inner6):
            assert address.packed not in frame
    assert one.association(three) is None


def test_nothing_of_the_inside_is_seen_outside(make: Make, switch: Switch) -> None:
    one, two = make(2)
    with switch.listen(one.port) as capture:
        one.reach(two)
        answer = _probed(one, two, 0.5)
    assert answer["lost"] == 0
    igmp = 2  # the switch's own, now and then
    datagrams = [
        frame for frame in capture.frames if frame[12:14] == b"\x08\x00" and frame[23] != igmp
    ]
    assert len(datagrams) > 500
    for frame in datagrams:
        assert frame[23] == 17  # UDP
        assert int.from_bytes(frame[36:38], "big") == PORT
        assert b"brineprb" not in frame
        assert one.inner4.packed not in frame[42:]


def test_killed_daemon_adopts_and_loses_nothing(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    eventually(lambda: confirmed(one, two))
    before = one.association(two)
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(two.probe_receive, 60, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, 6.0)
        for host in (one, two, one):
            time.sleep(0.5)
            host.kill()
            host.start()
        (run,) = receiver.result()["runs"]
        sender.result()
    assert run["sent"] == 6000
    assert run["lost"] == run["duplicated"] == 0
    after = one.association(two)
    assert before is not None
    assert after is not None
    for what in ("number", "local_index", "state"):
        assert after[what] == before[what]


def test_rotation_loses_nothing(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    with ThreadPoolExecutor(2) as pool:
        receiver = pool.submit(two.probe_receive, 60, 1)
        eventually(two.receives)
        sender = pool.submit(one.probe_send, two, 6.0)
        indices = set()
        for host in (one, two, one):
            time.sleep(1.5)
            (other,) = {one, two} - {host}
            assert host.ask("rotate", exchange=True)["started"] == [other.name]
            eventually(lambda: confirmed(one, two))
            indices.add(one.index(two))
        (run,) = receiver.result()["runs"]
        sender.result()
    assert run["lost"] == run["duplicated"] == 0
    assert len(indices) == 3


@pytest.mark.parametrize("who", [0, 1])
def test_rebooted_peer_is_reached_again(make: Make, who: int) -> None:
    hosts = make(2)
    one, two = hosts
    one.reach(two)
    rebooted = hosts[who]
    rebooted.kill()
    rebooted.forget()
    rebooted.apply()
    rebooted.start()
    one.reach(two)
    two.reach(one)
    eventually(lambda: confirmed(one, two))


@pytest.mark.parametrize("version", [4, 6])
def test_data_of_an_unknown_index_leads_to_an_exchange(make: Make, version: int) -> None:
    one, two = make(2, version)
    one.reach(two)
    two.kill()
    two.forget()
    two.apply()
    two.start()
    assert one.ping(two.inner4) is None  # lost, but not in vain

    def begun() -> bool:
        """the peer that forgot has begun an exchange"""
        return 'reason="data of an unknown index"' in two.log

    eventually(begun, 5)
    one.reach(two, 5)


def test_roaming_peer_is_followed(make: Make) -> None:
    home, rover = make(2, roaming={2})

    def found() -> bool:
        """the rover, which nobody knew the endpoint of, has made itself known"""
        return bool(home.peer(rover)["endpoint"] == f"{rover.underlay4.ip}:{PORT}")

    eventually(found)
    home.reach(rover)
    assert rover.ping(home.inner4) is not None


def test_verify_says_who_answers_and_why_others_do_not(make: Make) -> None:
    one, two, three = make(3)
    answer = one.inside(verify.run, one.config, 4, 5)
    assert answer["findings"] == []
    assert {reached["peer"] for reached in answer["reached"]} == {"host2", "host3"}
    three.set_mesh_secret(SECRET)
    three.ask("reload")
    one.ask("rotate", exchange=True)
    two.kill()
    two.forget()
    answer = one.inside(verify.run, one.config, 4, 1)
    assert {finding["check"] for finding in answer["findings"]} == {"echo"}
    assert all(finding["fatal"] for finding in answer["findings"])
    assert answer["reached"] == []
    assert "logs" in answer
    one.stop()
    answer = one.inside(verify.run, one.config, 4, 1)
    assert "daemon" in {finding["check"] for finding in answer["findings"]}
    one.forget()
    answer = one.inside(verify.run, one.config, 4, 1)
    (finding,) = answer["findings"]
    assert finding["check"] == "data path"


def test_both_at_once(make: Make) -> None:
    one, two = make(2)
    barrier = threading.Barrier(2)

    def ping(host: Host, other: Host) -> float | None:
        barrier.wait()
        return host.ping(other.inner4)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ping, (one, two), (two, one)))
    assert None not in answers

    def settled() -> bool:
        """one association is left on both sides"""
        return _count(one) == _count(two) == 1 and confirmed(one, two)

    eventually(settled)
    assert one.ping(two.inner4) is not None
    assert two.ping(one.inner4) is not None


def _count(host: Host) -> int:
    with Maps.of(host.config) as maps:
        return len(maps.associations())


def test_wrong_mesh_secret_never_associates(make: Make) -> None:
    one, two = make(2, psks=[SECRET, b"\x08" * 32])
    assert one.ping(two.inner4, 3) is None
    assert two.ping(one.inner4, 3) is None
    assert _count(one) == _count(two) == 0
    assert two.status()["drops"]["open_mac1"] > 0
    two.set_mesh_secret(SECRET)
    two.ask("reload")
    one.reach(two)


def test_changed_mesh_secret_ends_associations(make: Make) -> None:
    one, two = make(2, psks=[SECRET] * 2)
    one.reach(two)
    one.set_mesh_secret(b"\x09" * 32)
    one.ask("reload")
    assert _count(one) == 0
    assert one.ping(two.inner4) is None


@pytest.mark.parametrize("what", ["mesh secret", "identity"])
def test_what_ends_associations_ends_them_after_a_start_that_failed(make: Make, what: str) -> None:
    one, two = make(2, psks=[SECRET] * 2)
    one.reach(two)
    one.stop()
    if what == "mesh secret":
        one.set_mesh_secret(b"\x09" * 32)
    else:
        one.paths.identity.unlink()
        identity.ensure(one.paths, check=False)
    one.inside(damage_device, one)
    with pytest.raises(NotReady, match="brine0 cannot be written to"):
        one.start()
    assert _count(one) == 1
    one.inside(dataplane.apply, one.config, False)
    one.start()
    assert _count(one) == 0


def test_removed_peer_is_refused_and_others_keep_theirs(make: Make) -> None:
    one, two, three = make(3)
    one.reach(two)
    one.reach(three)
    kept = one.association(three)
    one.paths.roster.write_text(roster_of([one, three]))
    one.apply_peers()
    assert [peer["name"] for peer in one.status()["peers"]] == ["host3"]
    assert two.ping(one.inner4) is None
    assert one.ping(three.inner4) is not None
    after = one.association(three)
    assert kept is not None
    assert after is not None
    assert after["local_index"] == kept["local_index"]
    one.paths.roster.write_text(roster_of([one, two, three]))
    one.apply_peers()
    one.reach(two)


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("identity", "identity"),
        ("roster", "malformed"),
        ("data path", "not loaded"),
    ],
)
def test_says_why_it_cannot_run(make: Make, what: str, cause: str) -> None:
    (one,) = make(1)
    one.stop()
    if what == "identity":
        one.paths.identity.rename(one.paths.identity.with_suffix(".away"))
    elif what == "roster":
        one.paths.roster.write_text("{")
    else:
        one.forget()
    with pytest.raises(NotReady, match=f"STATUS=.*{cause}") as failure:
        one.start()
    assert failure.value.status == 1
    assert "next_step=" in one.log.splitlines()[-1]


def test_daemon_of_a_new_host_waits_for_its_peers(make: Make) -> None:
    one, two = make(2)
    one.kill()
    one.forget()
    roster = one.paths.roster.read_text()
    one.paths.roster.unlink()
    one.inside(dataplane.apply, one.config, False)
    one.start()
    assert one.status_of_daemon()["running"]
    one.paths.roster.write_text(roster)
    one.apply_peers()
    assert one.ping(two.inner4) is not None


def test_sighup_reads_the_files_again(make: Make) -> None:
    one, two = make(2, psks=[SECRET, b"\x08" * 32])
    two.set_mesh_secret(SECRET)
    two.signal(signal.SIGHUP)
    one.reach(two)


def test_new_maps_end_the_daemon_and_the_next_one_takes_them(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    one.change(max_peers=32)
    one.apply()
    assert one.exit_status(10) == 0
    one.start()
    one.reach(two)


def test_a_stream_arrives_whole(make: Make) -> None:
    one, two = make(2)
    data = random.Random(1).randbytes(8 << 20)

    def listen() -> socket.socket:
        return socket.create_server((str(two.inner4), 5001))

    with two.inside(listen) as listener, ThreadPoolExecutor(1) as pool:

        def take() -> bytes:
            connection, _ = listener.accept()
            with connection:
                return b"".join(iter(lambda: connection.recv(1 << 16), b""))

        taken = pool.submit(take)
        with one.inside(socket.create_connection, (str(two.inner4), 5001), 10) as connection:
            connection.sendall(data)
        assert taken.result() == data


def test_second_daemon_is_refused(make: Make) -> None:
    (one,) = make(1)
    first = one.ask("status")["pid"]
    second = one.spawn()
    assert second.wait(20) == 1
    assert "another brined" in one.log
    assert one.ask("status")["pid"] == first


def test_malformed_roster_on_reload_changes_nothing(make: Make) -> None:
    one, two = make(2)
    one.reach(two)
    one.paths.roster.write_text(json.dumps({"version": 1}))
    with pytest.raises(BrineError, match="malformed"):
        one.ask("reload")
    one.paths.roster.write_text(roster_of([one, two]))
    assert one.ping(two.inner4) is not None


def test_state_survives_and_moves_on(make: Make) -> None:
    one, two = make(2)
    one.reach(two)

    def saved(host: Host) -> dict[str, object]:
        found: dict[str, object] = json.loads(host.paths.daemon_state.read_text())
        return found

    eventually(lambda: bool(saved(two)["floors"]), 5)
    before = str(saved(one)["reserved"])
    one.stop()
    one.start()
    one.ask("rotate", exchange=True)
    eventually(lambda: str(saved(one)["reserved"]) > before, 10)
    assert Path(one.paths.daemon_state).stat().st_mode & 0o777 == 0o600
