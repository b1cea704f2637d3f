# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that anybody may send messages of the exchange to: the scene of test_admission.py.

Messages are built by brine.messages around noise of the right length, macs by brine.keys:
`open` looks at nothing else of them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

from brine import keys, messages
from brine.layout import Layout
from brine.libbpf import Run
from brine.messages import INITIATION, RESPONSE
from tests.bpf import packets
from tests.bpf.host import PORT, Host, address, boot_ns
from tests.bpf.receiver import OURS, THEIRS, Receiver

AWAITED = 0x0BADCAFE  #: an INITIATION of ours has this index
MS = 1_000_000
RATES = {  #: ms for each, and how many at once
    "SOURCE": (125, 16),
    "LISTED": (2, 1024),
    "STRANGERS": (5, 256),
    "SHOWN_LISTED": (5, 128),
    "SHOWN_STRANGERS": (20, 64),
    "ANSWER": (1000, 4),
}
STRANGER = {4: "203.0.113.77", 6: "2001:db8:77:1::5"}  #: no peer's
HOUR = 3600 * 1000 * MS
PASSED = {"open_pass_exchange": 1}
LISTED, STRANGERS = "BUDGET_LISTED", "BUDGET_STRANGERS"
SHOWN_LISTED, SHOWN_STRANGERS = "BUDGET_SHOWN_LISTED", "BUDGET_SHOWN_STRANGERS"


def key(text: str) -> bytes:
    """Of `sources`."""
    raw = address(text)
    return raw[:8] + bytes(8) if ":" in text else raw


@dataclass
class Strangers:
    """`host` with a peer at THEIRS, an identity, and one INITIATION under way."""

    host: Host
    mac1_key: bytes = field(default_factory=lambda: os.urandom(32))
    secret: bytes = field(default_factory=lambda: os.urandom(32))

    def __post_init__(self) -> None:
        self.layout = Layout(self.host.loaded.btf)
        self.receiver = Receiver(self.host)
        for text in THEIRS.values():
            self.host.list_endpoint(text, 2)
        self.accept(self.mac1_key)
        self.publish(self.secret)
        self.wait(AWAITED)

    # what the daemon writes

    def accept(self, *mac1_keys: bytes) -> None:
        """These and no others."""
        for slot in range(self.host.loaded.enum("map_size")["MAC1_KEYS"]):
            value = self.host.loaded.struct("mac1_key")()
            if slot < len(mac1_keys):
                value.key[:] = mac1_keys[slot]
                value.used = 1
            self.host.write("mac1_keys", slot, value)

    def publish(self, secret: bytes, seconds: float = 120) -> None:
        """R, for so long."""
        value = self.host.loaded.struct("cookie_secret")()
        value.secret[:] = secret
        value.not_after = boot_ns() + int(seconds * 1e9)
        self.host.write("cookie_secrets", 0, value)

    def wait(self, index: int, responses: int = 0, cookies: int = 0) -> None:
        """For an answer to the INITIATION of that index; until when its buckets are spent."""
        value = struct.pack("<QQ", responses, cookies)
        self.host.loaded.map("awaited").update(struct.pack("<I", index), value)

    # messages

    def initiation(self, key: bytes | None = None, cookie: bytes | None = None) -> bytes:
        noise = os.urandom(1352 - 8)
        return messages.initiation(self.layout, 7, noise, key or self.mac1_key, cookie)

    def response(self, key: bytes | None = None, index: int = AWAITED) -> bytes:
        noise = os.urandom(1200 - 12)
        return messages.response(self.layout, 7, index, noise, key or self.mac1_key)

    def cookie(self, index: int = AWAITED) -> bytes:
        return messages.seal_cookie(self.layout, index, os.urandom(32), os.urandom(16))

    def message(self, kind: str) -> bytes:
        """One that is to be admitted."""
        if kind == INITIATION:
            return self.initiation()
        return self.response() if kind == RESPONSE else self.cookie()

    def cookie_of(self, source: str, port: int = 50000) -> bytes:
        """What the daemon gives that source."""
        return keys.cookie(self.secret, address(source), port)

    # what arrives

    def frame(self, message: bytes, source: str, port: int = 50000) -> bytes:
        ours = OURS[6 if ":" in source else 4]
        return packets.ethernet(packets.udp_packet(source, ours, message, ports=(port, PORT)))

    def send(self, message: bytes, source: str = THEIRS[4], port: int = 50000) -> str:
        """What became of it: the counter without `open_`."""
        self.run = self.host.open(self.frame(message, source, port))
        (reason,) = self.host.stats()
        return reason.removeprefix("open_")

    run: Run = field(init=False)

    # buckets: the time until which all is spent

    def budget(self, name: str) -> int:
        number = self.host.loaded.enum("budget")[name]
        return int.from_bytes(self.host.value("budgets", number), "little")

    def spend(self, name: str, until: int) -> None:
        number = self.host.loaded.enum("budget")[name]
        self.host.loaded.map("budgets").update(struct.pack("<I", number), struct.pack("<Q", until))

    def empty(self, *names: str) -> None:
        """For the next hour."""
        for name in names:
            self.spend(name, boot_ns() + 3600 * 1000 * MS)

    def sources(self) -> dict[bytes, tuple[int, int]]:
        """Address → until when its buckets are spent: without and with mac2."""
        found = {}
        item = self.host.loaded.map("sources")
        for key in list(item.keys()):
            value = item.lookup(key)
            if value is not None:
                found[key] = struct.unpack("<QQ", value)
        return found

    def spend_source(self, source: bytes, spent: int = 0, shown: int = 0) -> None:
        self.host.loaded.map("sources").update(source, struct.pack("<QQ", spent, shown))

    def burst(self, name: str) -> tuple[int, int]:
        """ns for each, and how many at once."""
        each, burst = RATES[name]
        return each * MS, burst

    def charged(self) -> bool:
        """Whether anything at all was taken from any bucket."""
        item = self.host.loaded.map("awaited")
        answers = any(any(item.lookup(key) or b"") for key in list(item.keys()))
        budgets = self.host.loaded.enum("budget")
        names = [name for name in budgets if name != "BUDGETS"]
        return answers or bool(self.sources()) or any(map(self.budget, names))
