# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that reaches users."""

from __future__ import annotations


class BrineError(Exception):
    """What went wrong, and what to do about it. Never carries a secret."""

    def __init__(self, cause: str, next_step: str) -> None:
        super().__init__(f"{cause}. {next_step}")
        self.cause = cause
        self.next_step = next_step
