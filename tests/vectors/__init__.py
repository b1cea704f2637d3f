# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the test vectors beside it. Each directory's README says where they come from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def load(name: str) -> Any:
    """The JSON file `name`, such as ``rfc7748/x25519.json``."""
    return json.loads((HERE / name).read_text())


def libsodium(name: str) -> bytes:
    """The bytes in an ``.exp`` file of C array elements (``,0x8e,0x99 …``)."""
    text = (HERE / "libsodium" / name).read_text()
    return bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", text))


def libsodium_lines(name: str) -> list[bytes]:
    """The lines of an ``.exp`` file of plain hex."""
    return [
        bytes.fromhex(line) for line in (HERE / "libsodium" / name).read_text().splitlines() if line
    ]


def wycheproof(name: str) -> list[dict[str, Any]]:
    """All cases of a Wycheproof file, whatever their group."""
    return [case for group in load(f"wycheproof/{name}")["testGroups"] for case in group["tests"]]
