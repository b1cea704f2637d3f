# SPDX-License-Identifier: GPL-3.0-or-later
"""The structs and enumerators of bpf/*.h by name.

``layout.message_initiation`` is the ctypes class of ``struct message_initiation``,
``layout.enum("stat")["STAT_OPEN_OK"]`` an enumerator. Nothing is listed here: what the
BTF has, there is.
"""

from __future__ import annotations

import ctypes

from brine.btf import Btf


class Layout:
    """Looks up once, then remembers.

    :raises AttributeError: for a struct that the BTF does not have.
    :raises KeyError: from :meth:`enum`, likewise.
    """

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._enums: dict[str, dict[str, int]] = {}

    def __getattr__(self, name: str) -> type[ctypes.Structure]:
        if name.startswith("_"):  # asked by copy or pickle before __init__
            raise AttributeError(name)
        try:
            made = self._btf.struct(name)
        except KeyError:
            raise AttributeError(f"struct {name} is not in the BTF") from None
        setattr(self, name, made)
        return made

    def enum(self, name: str) -> dict[str, int]:
        """The enumerators of ``enum name``."""
        if name not in self._enums:
            self._enums[name] = self._btf.enum(name)
        return self._enums[name]
