# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotating an identity on one host: the states, in any order, and cut short anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brine import identity, keys, rotation
from brine.config import Paths
from brine.errors import BrineError

Step = Callable[[Paths, bool], dict[str, Any]]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(etc=tmp_path / "etc", run=tmp_path / "run")
    identity.ensure(made, check=False)
    return made


def tell(paths: Paths) -> None:
    """Write the roster as the play renders it from what the host has."""
    found = rotation.status(paths)
    entry: dict[str, Any] = {
        "name": "web1",
        "public_key": found["public_key"],
        "endpoint": None,
        "addresses": ["10.77.0.1"],
        "allowed_ips": [],
        "roaming": True,
    }
    for which in ("next", "previous"):
        if found[which]:
            entry[f"{which}_public_key"] = found[which]["public_key"]
    paths.roster.write_text(json.dumps({"version": 1, "networks": [], "peers": [entry]}))


def keys_of(paths: Paths) -> tuple[str | None, str, str | None]:
    found = rotation.status(paths)
    before, after = found["previous"], found["next"]
    return (
        before and before["public_key"],
        found["public_key"],
        after and after["public_key"],
    )


def test_a_whole_rotation(paths: Paths) -> None:
    _, old, _ = keys_of(paths)
    assert rotation.stage(paths, False)["state"] == "staged"
    tell(paths)
    _, current, new = keys_of(paths)
    assert current == old
    assert new not in (None, old)
    flipped = rotation.flip(paths, False)
    assert flipped["changed"]
    assert keys_of(paths) == (old, new, None)
    tell(paths)
    assert rotation.retire(paths, False)["changed"]
    assert keys_of(paths) == (None, new, None)
    assert [path.name for path in paths.etc.glob("identity*")] == ["identity.key"]


def test_every_step_is_idempotent(paths: Paths) -> None:
    for step in (rotation.stage, rotation.flip, rotation.unflip, rotation.unstage):
        assert step(paths, False)["changed"], step
        before = keys_of(paths)
        again = step(paths, False)
        assert not again["changed"]
        assert again["diff"]["before"] == again["diff"]["after"]
        assert keys_of(paths) == before
        tell(paths)
    assert not rotation.retire(paths, False)["changed"]


def test_it_is_reversible_until_retired(paths: Paths) -> None:
    _, old, _ = keys_of(paths)
    rotation.stage(paths, False)
    _, _, new = keys_of(paths)
    tell(paths)
    rotation.flip(paths, False)
    rotation.unflip(paths, False)
    assert keys_of(paths) == (None, old, new)
    rotation.unstage(paths, False)
    assert keys_of(paths) == (None, old, None)


def test_check_changes_nothing(paths: Paths) -> None:
    def files() -> dict[str, str]:
        return {path.name: path.read_text() for path in paths.etc.glob("identity*")}

    for step in (rotation.stage, rotation.flip, rotation.retire):
        before = files()
        predicted = step(paths, True)
        assert files() == before
        done = step(paths, False)
        assert predicted["changed"] == done["changed"]
        if step is not rotation.stage:
            assert predicted["diff"] == done["diff"]
        tell(paths)


def test_nothing_goes_ahead_of_the_roster(paths: Paths) -> None:
    tell(paths)
    with pytest.raises(BrineError, match="no next identity"):
        rotation.flip(paths, False)
    rotation.stage(paths, False)
    with pytest.raises(BrineError, match="does not name the next identity"):
        rotation.flip(paths, False)
    with pytest.raises(BrineError, match="not in use yet"):
        rotation.retire(paths, False)
    tell(paths)
    rotation.flip(paths, False)
    with pytest.raises(BrineError, match="still turn to the former one"):
        rotation.retire(paths, False)
    with pytest.raises(BrineError, match="already in use"):
        rotation.unstage(paths, False)
    assert rotation.status(paths)["state"] == "flipped"


class Killed(BaseException):
    """As a signal that nothing can catch."""


@pytest.mark.parametrize("steps", range(1, 30))
def test_cut_short_anywhere_it_goes_on(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Every call that changes the directory is the last one in turn; what is done again then
    ends as if nothing had happened, with one valid identity throughout."""
    _, old, _ = keys_of(paths)
    left = steps

    def dying(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            result = real(*arguments, **more)
            if "identity" in str(arguments[0]):
                left -= 1
                if left == 0:
                    raise Killed
            return result

        return call

    for name in ("link", "unlink", "replace"):
        monkeypatch.setattr(os, name, dying(name))
    killed = 0
    for step in (rotation.stage, rotation.flip, rotation.unflip, rotation.flip, rotation.retire):
        try:
            step(paths, False)
        except Killed:
            killed += 1
            assert rotation.load(paths).accepted  # whatever the moment, the daemon can start
            step(paths, False)
        tell(paths)
    before, current, after = keys_of(paths)
    assert before is after is None
    assert current != old
    assert killed == (left <= 0)


def test_a_foreign_third_identity_is_refused(paths: Paths) -> None:
    rotation.stage(paths, False)
    identity.make(paths.identity_previous)
    with pytest.raises(BrineError, match="three identities"):
        rotation.load(paths)


def test_no_private_key_is_told(paths: Paths) -> None:
    rotation.stage(paths, False)
    tell(paths)
    told = json.dumps([rotation.flip(paths, False), rotation.status(paths)])
    told += repr(rotation.load(paths))
    for path in paths.etc.glob("identity*"):
        private = path.read_text().strip()
        assert keys.parse_key(private)
        assert private not in told
