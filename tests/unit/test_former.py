# SPDX-License-Identifier: GPL-3.0-or-later
"""Former maps that cannot be read, erased or removed as they should. The rest of it needs a
kernel: tests/integration/test_layouts.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from brine import former
from brine.errors import BrineError
from brine.records import ControlError, StaleMaps


class FormerMaps:
    """As brine.maps.Maps: associations 1 to 3 with peer 0. `refused`: erasing which fails, how."""

    refused: dict[int, Exception]
    unreadable: Exception | None
    erased: list[int]
    closed: int

    @classmethod
    def reset(cls) -> None:
        cls.refused, cls.unreadable, cls.erased, cls.closed = {}, None, [], 0

    @classmethod
    def open(cls, _directory: Path, _lock: Path) -> FormerMaps:
        return cls()

    def identities(self) -> dict[int, bytes]:
        if self.unreadable is not None:
            raise self.unreadable
        return {0: b"\5" * 32}

    def associations_in_use(self) -> dict[int, tuple[int, int]]:
        return {number: (0, number) for number in (1, 2, 3)}

    def erase(self, number: int) -> None:
        if number in self.refused:
            raise self.refused[number]
        self.erased.append(number)

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> type[FormerMaps]:
    FormerMaps.reset()
    monkeypatch.setattr(former, "Maps", FormerMaps)
    return FormerMaps


@pytest.fixture
def bpffs(tmp_path: Path) -> Path:
    for name in ("v4_former1", "v4_former2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "control").touch()
    return tmp_path


@pytest.mark.parametrize("result", ["CONTROL_AGAIN", "CONTROL_NO_ASSOCIATION"])
def test_one_that_cannot_be_erased_holds_up_nothing(
    maps: type[FormerMaps], bpffs: Path, result: str
) -> None:
    maps.refused = {1: ControlError(result)}
    former.retire(bpffs / "v4_former1", bpffs / "lock")
    assert maps.erased == [2, 3]
    assert maps.closed == 1
    assert not (bpffs / "v4_former1").exists()


def test_keys_that_nothing_can_erase_are_not_passed_over(
    maps: type[FormerMaps], bpffs: Path
) -> None:
    maps.refused = {2: BrineError("it cannot be locked", "run as root")}
    with pytest.raises(BrineError, match="locked"):
        former.retire(bpffs / "v4_former1", bpffs / "lock")
    assert maps.closed == 1
    assert (bpffs / "v4_former1" / "control").exists()


@pytest.mark.parametrize("failure", [StaleMaps(), FileNotFoundError(), KeyError("PEER")])
def test_what_cannot_be_read_is_closed(
    maps: type[FormerMaps], bpffs: Path, failure: Exception
) -> None:
    maps.unreadable = failure
    expected = StaleMaps if isinstance(failure, FileNotFoundError) else type(failure)
    with pytest.raises(expected):
        former.Former(bpffs / "v4_former1", bpffs / "lock")
    assert maps.closed == 1


def test_pins_that_cannot_be_removed_leave_no_others(maps: type[FormerMaps], bpffs: Path) -> None:
    with former.Formers(bpffs, bpffs / "lock") as formers:
        assert len(formers.all) == 2
        (bpffs / "v4_former1" / "not_a_pin").mkdir()
        with pytest.raises(OSError, match="not_a_pin"):
            formers.take_away(bpffs / "v5")
        assert not formers.all
    assert maps.closed == 2
    assert not (bpffs / "v4_former2").exists()
