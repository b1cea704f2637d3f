# SPDX-License-Identifier: GPL-3.0-or-later
"""Making and reading the identity."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from brine import identity, keys
from brine.config import Paths
from brine.errors import BrineError


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(etc=tmp_path / "etc")


def test_is_made_once(paths: Paths) -> None:
    made = identity.ensure(paths, check=False)
    again = identity.ensure(paths, check=False)
    assert made["changed"]
    assert not again["changed"]
    assert again["public_key"] == made["public_key"]
    assert again["diff"]["before"] == again["diff"]["after"] == made["diff"]["after"]
    public = keys.parse_key(made["public_key"])
    assert made["key_id"] == keys.key_id(public)
    assert made["address"] == str(keys.overlay_address(public))
    assert identity.show(paths) == {
        name: made[name] for name in ("public_key", "key_id", "address")
    }


def test_the_file(paths: Paths) -> None:
    identity.ensure(paths, check=False)
    assert stat.S_IMODE(paths.identity.stat().st_mode) == 0o600
    text = paths.identity.read_text()
    assert text.endswith("=\n")
    assert keys.public_key(keys.parse_key(text)) == identity.load(paths).public
    assert [path.name for path in paths.etc.iterdir()] == ["identity.key"]


def test_check_makes_nothing(paths: Paths) -> None:
    answer = identity.ensure(paths, check=True)
    assert answer["changed"]
    assert answer["public_key"] is answer["key_id"] is answer["address"] is None
    assert not paths.etc.exists()
    identity.ensure(paths, check=False)
    assert not identity.ensure(paths, check=True)["changed"]


def test_of_many_at_once_all_get_the_same(paths: Paths) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: identity.ensure(paths, check=False), range(8)))
    assert len({answer["public_key"] for answer in answers}) == 1


def test_says_nothing_of_the_private_half(paths: Paths) -> None:
    made = identity.ensure(paths, check=False)
    private = paths.identity.read_text().strip()
    loaded = identity.load(paths)
    for text in (json.dumps(made), repr(loaded), str(loaded)):
        assert private not in text
        assert loaded.private.hex() not in text
        assert repr(loaded.private) not in text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o700])
def test_a_key_that_others_may_have_read(paths: Paths, mode: int) -> None:
    identity.ensure(paths, check=False)
    paths.identity.chmod(mode)
    with pytest.raises(BrineError, match="others than root may have read") as failure:
        identity.ensure(paths, check=False)
    assert "chmod 0600" in failure.value.next_step


def test_a_key_of_another_user(paths: Paths) -> None:
    if os.geteuid() != 0:
        pytest.fail("run as root: only root can give a file away")
    identity.ensure(paths, check=False)
    os.chown(paths.identity, 65534, -1)
    with pytest.raises(BrineError, match="belongs to user 65534"):
        identity.load(paths)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "has 0 bytes instead of 32"),
        ("secret-secret-secret", "is not base64"),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "is all zeros"),
        ("c2VjcmV0LXNlY3JldA==", "has 13 bytes instead of 32"),
    ],
)
def test_what_is_no_key(paths: Paths, content: str, cause: str) -> None:
    paths.etc.mkdir()
    paths.identity.touch(0o600)
    paths.identity.write_text(content)
    with pytest.raises(BrineError, match=cause) as failure:
        identity.ensure(paths, check=False)
    assert not content or content not in str(failure.value)
    assert paths.identity.read_text() == content  # it is never replaced


def test_a_link_is_not_followed(paths: Paths, tmp_path: Path) -> None:
    other = Paths(etc=tmp_path / "other")
    identity.ensure(other, check=False)
    paths.etc.mkdir()
    paths.identity.symlink_to(other.identity)
    with pytest.raises(BrineError, match="cannot be read"):
        identity.load(paths)


def test_a_directory_in_its_place(paths: Paths) -> None:
    paths.identity.mkdir(parents=True)
    with pytest.raises(BrineError, match="is not a regular file"):
        identity.load(paths)


def test_mesh_secret(paths: Paths) -> None:
    assert identity.load_mesh_secret(paths) == bytes(32)
    paths.etc.mkdir()
    paths.mesh_secret.touch(0o600)
    paths.mesh_secret.write_text(keys.show_key(b"\5" * 32) + "\n")
    assert identity.load_mesh_secret(paths) == b"\5" * 32
    paths.mesh_secret.chmod(0o644)
    with pytest.raises(BrineError, match="mesh_secret"):
        identity.load_mesh_secret(paths)


def test_no_identity(paths: Paths) -> None:
    with pytest.raises(identity.Missing) as failure:
        identity.show(paths)
    assert failure.value.next_step == "run `brine identity ensure`"
