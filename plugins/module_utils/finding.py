# SPDX-License-Identifier: GPL-3.0-or-later
"""Something wrong that was found: where, what, and what to do about it."""

from __future__ import annotations

import typing as t


class Finding(t.TypedDict):
    check: str  # one word: what was looked at
    cause: str
    next_step: str
    fatal: bool  # False: worth saying, but no reason to stop


def finding(check: str, cause: str, next_step: str, fatal: bool = True) -> Finding:
    return Finding(check=check, cause=cause, next_step=next_step, fatal=fatal)
