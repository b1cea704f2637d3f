# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask of the running daemon: how it is, and new keys.

rotate               the next key of this host's, made by the ratchet: heals what a thief
                     learned of the present ones who only listens
rotate, `exchange`   another association: both hosts' keys, and the post-quantum part, anew
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import brine
from brine import keys
from brine.daemon.exchanges import Exchanges
from brine.daemon.identities import Identities
from brine.daemon.inject import Injector
from brine.daemon.peers import Peer, PeerTable
from brine.daemon.ratchet import Ratchets
from brine.errors import BrineError


class Operators:
    """Answers the verbs of the control socket that change no setting."""

    def __init__(
        self,
        table: PeerTable,
        identities: Identities,
        exchanges: Exchanges,
        ratchets: Ratchets,
        injector: Injector,
    ) -> None:
        self._table = table
        self._identities = identities
        self._exchanges = exchanges
        self._ratchets = ratchets
        self._injector = injector
        self._since = time.time()

    def status(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """See docs/operations.md, `brine status --json`: `daemon`."""
        return {
            "pid": os.getpid(),
            "since": int(self._since),
            "version": brine.__version__,
            "key_id": keys.key_id(self._identities.own),
            **self._identities.report(),
            **self._exchanges.report(),
            "not_injected": self._injector.failures,
        }

    def rotate(self, request: Mapping[str, Any]) -> dict[str, list[str]]:
        """A new key for one peer, or for all that there is an association with. Names by what
        came of it: `made`; `later`, when the former key is gone; `started`: an exchange, which
        `exchange` asks for, or where there is no confirmed association.

        :raises BrineError: if there is no such peer.
        """
        answer: dict[str, list[str]] = {"made": [], "later": [], "started": []}
        for peer in self._chosen(request.get("peer")):
            if request.get("exchange") is True or not self._ratchets.turns(peer):
                self._exchanges.initiate(peer, "asked for", at_ease=True)
                answer["started"].append(peer.name)
            else:
                answer["made" if self._ratchets.want(peer) else "later"].append(peer.name)
        return {what: sorted(names) for what, names in answer.items()}

    def _chosen(self, name: object) -> list[Peer]:
        if name is None:
            return [peer for peer in self._table if peer.living]
        named = self._table.named(str(name))
        if named is None:
            raise BrineError(f"there is no peer {name}", "see `brine peers` for the names")
        return [named]
