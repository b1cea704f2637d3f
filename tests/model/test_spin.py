# SPDX-License-Identifier: GPL-3.0-or-later
"""The models hold, all of their states seen; and broken on purpose they are caught.

A model that could do nothing would hold, too: hence the least number of states,
and hence the variants, each of which breaks one rule of docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model import spin

#: (model, what it is built with)
Build = tuple[str, tuple[tuple[str, int], ...]]

RATCHET: Build = ("ratchet", ())
SLOTS: Build = ("slots", ())
SLOTS_ERASED: Build = ("slots", (("INSTANCES", 2),))
ASSOCIATIONS: Build = ("associations", ())

ADOPTIONS = {"OPENERS": 2, "SEALERS": 0, "PACKETS": 1, "OWN_LAST": 0, "PEER_LAST": 2}
GENERATIONS = {"OPENERS": 1, "SEALERS": 0, "OWN_LAST": 2, "PEER_LAST": 2}
FOLLOWING = {"OPENERS": 1, "SEALERS": 0, "PACKETS": 3, "OWN_LAST": 1, "PEER_LAST": 1}
SEALING = {"OPENERS": 1, "SEALERS": 1, "OWN_LAST": 0, "PEER_LAST": 2}
ERASED_OPENING = {"OPENERS": 2, "SEALERS": 0, "PACKETS": 1, "OWN_LAST": 0, "PEER_LAST": 0}
ERASED_PAIRS = {"OPENERS": 1, "SEALERS": 0, "PACKETS": 1, "OWN_LAST": 1, "PEER_LAST": 0}
ERASED_SEALING = {"OPENERS": 0, "SEALERS": 2, "SEALS": 3, "OWN_LAST": 0, "PEER_LAST": 0}

#: build, settings, states at least
SOUND: list[tuple[Build, dict[str, int], int]] = [
    (RATCHET, {}, 100_000),
    (SLOTS, ADOPTIONS, 200_000),
    (SLOTS, GENERATIONS, 1_000_000),
    (SLOTS, FOLLOWING, 1_000_000),
    (SLOTS, SEALING, 1_000_000),
    (SLOTS_ERASED, ERASED_OPENING, 500_000),
    (SLOTS_ERASED, ERASED_PAIRS, 100_000),
    (SLOTS_ERASED, ERASED_SEALING | {"SEALS": 2}, 100_000),
    (ASSOCIATIONS, {}, 20_000),
    (ASSOCIATIONS, {"OUTAGES": 1}, 20_000),
    (ASSOCIATIONS, {"CHAOS": 1, "CRASHES": 2}, 20_000),
    (ASSOCIATIONS, {"AHEAD": 4}, 5_000),
    (ASSOCIATIONS, {"AHEAD": 4, "ONE_WAY": 1}, 5_000),
]

#: what shows that a variant is broken, where the model's own settings do not
BROKEN: dict[str, dict[str, tuple[Build, dict[str, int]]]] = {
    "ratchet": {},
    "slots": {
        "NO_REREAD": (SLOTS, ADOPTIONS),
        "REREAD_EARLY": (SLOTS, GENERATIONS),
        "WIPE_FIRST": (SLOTS, GENERATIONS),
        "NO_SEAL_CHECK": (SLOTS, SEALING),
        "COUNT_FIRST": (SLOTS_ERASED, ERASED_SEALING),
        "NO_OPEN_CHECK": (SLOTS_ERASED, ERASED_OPENING),
        "NO_SERIAL": (SLOTS_ERASED, ERASED_SEALING),
        "NO_INSTANCE": (SLOTS_ERASED, ERASED_PAIRS),
        "NO_ADOPTING": (SLOTS, GENERATIONS),
        "LEAVE_LAG": (SLOTS, FOLLOWING),
        "REMEMBER": (SLOTS, ADOPTIONS),
        "LOCK_ANYTHING": (SLOTS, GENERATIONS),
    },
    "associations": {
        "REFUSE_ALL": (ASSOCIATIONS, {"AHEAD": 4}),
        "SILENT_FLOOR": (ASSOCIATIONS, {"AHEAD": 4, "ONE_WAY": 1}),
    },
}
CASES = [(model, name) for model in BROKEN for name in spin.variants(model)]

Verifier = Callable[[Build], Path]


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    """Builds each verifier once."""
    built: dict[Build, Path] = {}

    def get(wanted: Build) -> Path:
        if wanted not in built:
            model, defines = wanted
            built[wanted] = spin.build(model, dict(defines), tmp_path_factory.mktemp(model))
        return built[wanted]

    return get


@pytest.mark.parametrize(
    ("wanted", "settings", "least"),
    SOUND,
    ids=[
        "-".join([build[0], *(f"{name.lower()}{value}" for name, value in settings.items())])
        for build, settings, _ in SOUND
    ],
)
def test_holds(verifier: Verifier, wanted: Build, settings: dict[str, int], least: int) -> None:
    outcome = spin.run(verifier(wanted), settings)
    assert outcome.violation is None, outcome.output
    assert outcome.complete, outcome.output
    assert outcome.states >= least


@pytest.mark.parametrize(("model", "name"), CASES, ids=[f"{model}-{name}" for model, name in CASES])
def test_broken_is_caught(verifier: Verifier, model: str, name: str) -> None:
    wanted, settings = BROKEN[model].get(name, ((model, ()), {}))
    number = spin.variants(model)[name]
    outcome = spin.run(verifier(wanted), settings | {"VARIANT": number})
    assert outcome.violation is not None, f"{name} is not caught: {outcome.output}"


def test_names_only_variants() -> None:
    for model, cases in BROKEN.items():
        assert cases.keys() <= spin.variants(model).keys()
        numbers = list(spin.variants(model).values())
        assert numbers == list(range(1, len(numbers) + 1))
