# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts on one cable: network namespaces, the object loaded and attached in each.

For what BPF_PROG_TEST_RUN cannot show: what really leaves and arrives, neighbours,
frames in fragments, and packets as the stack makes them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from brine.libbpf import XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, attach_tc_ingress, attach_xdp
from tests.bpf.host import PORT, Host, Keys
from tests.bpf.loaded import Loaded

ETH_P_ALL = 3
PACKET_OUTGOING = 4
_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

UNDERLAY = ({4: "192.0.2.1", 6: "2001:db8::1"}, {4: "192.0.2.2", 6: "2001:db8::2"})
OVERLAY = (
    {4: "10.77.0.1", 6: "fd62:7269:6e65::1"},
    {4: "10.77.0.2", 6: "fd62:7269:6e65::2"},
)
OVERLAY_BITS = {4: 16, 6: 48}
INDEX = (0xA0A0A0A0, 0xB0B0B0B0)
PEER, SLOT = 1, 2  # in each host's own maps


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr or done.stdout}")


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, in that network namespace."""
    with open("/proc/thread-self/ns/net", "rb") as before:
        with open(f"/run/netns/{namespace}", "rb") as there:
            if _libc.setns(there.fileno(), _NEWNET):
                raise OSError(ctypes.get_errno(), f"enter {namespace}")
        try:
            yield
        finally:
            _libc.setns(before.fileno(), _NEWNET)


class Machine:
    """One of the two: its namespace, its load of the object, its map contents."""

    def __init__(self, number: int, name: str, path: Path) -> None:
        self.number = number
        self.name = name
        self.loaded = Loaded(path, "selftest")
        self.host = Host(self.loaded)
        self._link: int | None = None

    def attach(self, mode: str) -> None:
        """Both programs: `seal` on brine0p, `open` on the underlay, "native" or "generic"."""
        with inside(self.name):
            indices = {text: index for index, text in socket.if_nameindex()}
            attach_tc_ingress(self.loaded.program("seal"), indices["brine0p"])
            flags = {"native": XDP_FLAGS_DRV_MODE, "generic": XDP_FLAGS_SKB_MODE}[mode]
            self._link = attach_xdp(self.loaded.program("open"), indices["underlay"], flags)
            mac = self._mac("brine0")
        self.host.configure(
            UNDERLAY[self.number][4],
            UNDERLAY[self.number][6],
            underlay=indices["underlay"],
            inside=indices["brine0p"],
        )
        config = self.host.read("config", "config", 0)
        config.brine0_mac[:] = mac
        self.host.write("config", 0, config)

    def _mac(self, device: str) -> bytes:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as probe:
            probe.bind((device, 0))
            address: bytes = probe.getsockname()[4]
            return address

    def trust(self, family: int, keys: Keys) -> None:
        """Know the other one, at its underlay address of that family."""
        other = 1 - self.number
        self.host.peer(PEER, (UNDERLAY[other][family], PORT))
        for inner, bits in ((4, 32), (6, 128)):
            self.host.route(f"{OVERLAY[other][inner]}/{bits}", PEER)
        self.host.install(SLOT, PEER, keys, index=INDEX[self.number], remote=INDEX[other])
        assert self.host.publish(SLOT) == "DONE"

    def udp(self, family: int) -> socket.socket:
        """A UDP socket on the overlay address."""
        with inside(self.name):
            made = socket.socket(
                socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM
            )
            made.bind((OVERLAY[self.number][family], 0))
        made.settimeout(5)
        return made

    def raw(self, device: str) -> socket.socket:
        """A packet socket: sends frames as they are, sees all that passes."""
        with inside(self.name):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            made.bind((device, ETH_P_ALL))
        made.settimeout(5)
        return made

    def close(self) -> None:
        if self._link is not None:
            os.close(self._link)
        self.host.close()
        self.loaded.close()


class Cable:
    """Both machines, their keys, and an ear on what the first one sends."""

    def __init__(
        self,
        path: Path,
        *,
        family: int = 4,
        mode: str = "native",
        mtu: int = 1500,
    ) -> None:
        self.family = family
        names = [f"brine-bpf-{os.getpid()}-{letter}" for letter in "ab"]
        self.keys = Keys()
        self._stack = contextlib.ExitStack()
        try:
            for name in names:
                run("ip", "netns", "add", name)
                self._stack.callback(run, "ip", "netns", "delete", name)
            self._lay(names, mtu)
            self.a, self.b = (Machine(number, name, path) for number, name in enumerate(names))
            for machine in (self.a, self.b):
                self._stack.callback(machine.close)
                machine.attach(mode)
            back = Keys(send=self.keys.receive, receive=self.keys.send)
            self.a.trust(family, self.keys)
            self.b.trust(family, back)
            self.ear = self.a.raw("underlay")
            self._stack.callback(self.ear.close)
        except BaseException:
            self._stack.close()
            raise

    def _lay(self, names: list[str], mtu: int) -> None:
        run(
            *f"ip link add underlay netns {names[0]} mtu {mtu} type veth peer underlay".split(),
            *f"netns {names[1]} mtu {mtu}".split(),
        )
        for number, name in enumerate(names):

            def ip(command: str, name: str = name) -> None:
                run("ip", "-n", name, *command.split())

            ip("link set underlay up")
            ip("link set lo up")
            ip("link add brine0 type veth peer brine0p")
            run(*f"ip netns exec {name} ethtool -K brine0 tx off tso off gso off gro on".split())
            ip(f"link set brine0 arp off mtu {mtu - 80} up")
            ip(f"link set brine0p mtu {mtu - 80} up")
            for inner, bits in OVERLAY_BITS.items():
                flags = "" if inner == 4 else "nodad"
                outer_bits = 24 if inner == 4 else 64
                ip(f"addr add {UNDERLAY[number][inner]}/{outer_bits} dev underlay {flags}")
                ip(f"addr add {OVERLAY[number][inner]}/{bits} dev brine0 {flags}")

    def sent(self, matching: int = INDEX[1]) -> bytes:
        """The next sealed frame that leaves the first machine, by its receiver index."""
        at = 14 + (20 if self.family == 4 else 40) + 8
        while True:
            frame, (_device, _protocol, kind, *_rest) = self.ear.recvfrom(65536)
            if kind == PACKET_OUTGOING and len(frame) >= at + 32:
                message = frame[at:]
                if message[0] == 4 and struct.unpack_from("<I", message, 4)[0] == matching:
                    return frame

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def settle(look: Callable[[], bool], tries: int = 500) -> None:
    """Wait until ``look()`` is true: what the kernel does after a packet left takes a moment."""
    for _ in range(tries):
        if look():
            return
        time.sleep(0.01)
    raise AssertionError(f"{look} never came true")
