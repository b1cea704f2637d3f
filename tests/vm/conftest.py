# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on the kernels of Debian 12 and 13, in virtual machines.

The lab whose name is in BRINE_LAB is the one that they look at; Molecule sets it.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.labs import ROOT, Lab
from tests.vm.machines import MACHINES

LINES = 40  # of a console


@pytest.fixture(scope="session")
def lab() -> Lab:
    name = os.environ.get("BRINE_LAB")
    if not name:
        pytest.exit(
            "BRINE_LAB names no lab: run `molecule test -s vm`, or set it to one that is up", 4
        )
    return Lab(name, ROOT / "inventories/vm")


@pytest.fixture(scope="session", params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    """A machine's name."""
    return str(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """To a test that fails, add what the kernels said last: a machine that hangs says it there."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(lab, Lab):
        for name in sorted(MACHINES):
            console = lab.state / name / "console.log"
            if console.exists():
                last = console.read_text(errors="replace").splitlines()[-LINES:]
                report.sections.append((f"Console of {name}", "\n".join(last)))
    return report
