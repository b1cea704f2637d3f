# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one of the Python targets under libFuzzer, by atheris:
`python -m tests.fuzz.guided TARGET BUILD [libFuzzer's arguments]`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["brine", "json", "ipaddress", "base64"]):
    from tests.fuzz.python_targets import TARGETS


def main() -> None:
    name, build = sys.argv[1], Path(sys.argv[2])
    target = TARGETS[name](build)
    atheris.Setup([sys.argv[0], *sys.argv[3:]], target.test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
