# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the get-pip.py that ansible-test would download: pip from a checked wheel.

scripts/bootstrap puts it where ansible-test looks, which runs it with what get-pip.py takes:
packages, --no-setuptools, --no-wheel.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

(wheel,) = (Path.home().parent / "wheels").glob("pip-*.whl")
sys.path.insert(0, str(wheel))
given = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.argv[1:] = ["install", *given]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
