# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from brine.config import DEFAULTS, Config, Paths, disagreement, load, parse
from brine.errors import BrineError

ROOT = Path(__file__).resolve().parents[2]
GIVEN: dict[str, Any] = {
    "bpffs": "/sys/fs/bpf/brine",
    "copy_dscp": False,
    "interface": "eth0",
    "kernel_derivation": True,
    "max_peers": 64,
    "mtu": None,
    "object": "/opt/brine/brine.bpf.o",
    "port": 4747,
    "roaming": False,
    "xdp_mode": "auto",
}


def read(**changes: Any) -> Config:
    return parse(json.dumps({**GIVEN, **changes}), Paths())


def test_what_the_role_writes() -> None:
    paths = Paths()
    assert read() == Config(
        bpffs=Path("/sys/fs/bpf/brine"),
        copy_dscp=False,
        interface="eth0",
        kernel_derivation=True,
        max_peers=64,
        mtu=None,
        object=Path("/opt/brine/brine.bpf.o"),
        port=4747,
        roaming=False,
        xdp_mode="auto",
        paths=paths,
    )
    assert read(mtu=1280).mtu == 1280
    assert read(copy_dscp=True).copy_dscp is True
    assert read(roaming=True).roaming is True
    assert read(kernel_derivation=False).kernel_derivation is False


def test_what_a_file_of_before_lacks_is_as_the_role_has_it() -> None:
    without = {name: value for name, value in GIVEN.items() if name not in DEFAULTS}
    role = yaml.safe_load((ROOT / "roles/brine/defaults/main.yml").read_text())
    assert parse(json.dumps(without), Paths()) == read(
        kernel_derivation=role["brine_kernel_derivation"],
        mtu=role.get("brine_mtu"),
        roaming=role["brine_roaming"],
    )


@pytest.mark.parametrize("here", [False, True])
def test_a_roster_of_another_mind_is_told_from_one_that_agrees(here: bool) -> None:
    config = read(roaming=here)
    assert disagreement(config, here) is None
    said = disagreement(config, not here) or ""
    assert str(config.paths.config) in said
    assert ("do not follow" in said) is here


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_peers": "64"}, "max_peers is '64', not a whole number"),
        ({"max_peers": True}, "max_peers is True, not a whole number"),
        ({"max_peers": 0}, "not within 1 to"),
        ({"max_peers": 1 << 21}, "not within 1 to"),
        ({"port": 0}, "port is 0"),
        ({"port": 65536}, "port is 65536"),
        ({"mtu": 1279}, "mtu is 1279, not within 1280"),
        ({"mtu": "1400"}, "mtu is '1400'"),
        ({"xdp_mode": "offload"}, "not one of auto, native, generic"),
        ({"copy_dscp": "no"}, "copy_dscp is 'no', not true or false"),
        ({"kernel_derivation": 1}, "kernel_derivation is 1, not true or false"),
        ({"bpffs": "brine"}, "not an absolute path"),
        ({"interface": ""}, "no underlay interface can be called"),
        ({"interface": "sixteen-letters-"}, "no underlay interface can be called"),
        ({"interface": "a/b"}, "no underlay interface can be called"),
        ({"interface": "brine0"}, "no underlay interface can be called"),
        ({"colour": "green"}, "'colour' is not a setting"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(**changes)


@pytest.mark.parametrize("missing", sorted(GIVEN.keys() - DEFAULTS.keys()))
def test_every_other_setting_is_required(missing: str) -> None:
    given = {name: value for name, value in GIVEN.items() if name != missing}
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        parse(json.dumps(given), Paths())


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "there is no"),
        (b"{", "is malformed"),
        (b"[]", "is not an object"),
        (b"\xff\xfe", "cannot be read: it is not UTF-8"),
    ],
)
def test_a_file_that_will_not_do(tmp_path: Path, content: bytes | None, cause: str) -> None:
    paths = Paths(etc=tmp_path)
    if content is not None:
        paths.config.write_bytes(content)
    with pytest.raises(BrineError, match=cause) as failure:
        load(paths)
    assert str(paths.config) in failure.value.cause
    assert failure.value.next_step


def test_load(tmp_path: Path) -> None:
    paths = Paths(etc=tmp_path)
    paths.config.write_text(json.dumps(GIVEN))
    assert load(paths).paths == paths
