# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says around its tables."""

INTRODUCTION = """\
`make bench` measures all of this and writes this file; the raw values of every round are in
`build/bench/results.json`, and `python -m bench.report` writes it again from them. Figures: median
of the rounds (least–most). Both ends run on this one machine, as network namespaces joined by a
veth pair: compare within a table, and do not take the figures for those of two machines."""

BUSY = """\
**The machine was busy with other work during a part of this (load average, below): that does not
tell whether a target is met.**"""

TARGETS = """\
A ratio is of values of the same round; the median decides. "As placed", "spread", "wired": see
[beside other tunnels](#beside-other-tunnels). Where several peers are meant, the one that is the
hardest for brine is shown."""

TUNNELS = """\
"As placed": the kernel decides what runs where, so that a sender's CPU often does the receiver's
work too. "Spread": each host's underlay device is polled by a kernel thread that is bound to a CPU
of its own (threaded NAPI). "Wired": each host has a CPU for all that runs on it, and packets go
from one to the other as frames of the MTU, by an XDP program in a third namespace, with a queue
that holds the sender back. This is the nearest to two machines. Without the wire, three things
pass that no cable lets through: super-packets that the other side need not put together again,
checksums that were never made, and a sender's claim to its packets, which brings its next ones to
be sent, and with brine sealed, on the receiver's CPU. All the same for every tunnel. CPU time is
that of the whole machine, iperf3 and the wire included. "Plain veth, no offload" segments as a
tunnel must. The kernel takes plain veth's packets past the spread threads, which every tunnel's
wake up: of round trips, compare the spread ones of tunnels only. [Why brine is as fast as it
is](speed.md) looks at what it takes."""

KERNELS = """\
Between two virtual machines, Debian 12 with Linux 6.1 and Debian 13 with Linux 6.12, virtio-net,
`open` in native mode (`make bench-vm`). Their processors are emulated, instruction by instruction
and vector instructions more slowly than others: only the ratios say something, and on real
processors they are others, in favour of what uses vectors or AES in hardware, which WireGuard and
ESP do and BPF cannot."""

PRIMITIVES = """\
In BPF beside libsodium's on the same core. libsodium's secretbox derives the sub-key anew for
every message, brine's has it in the box; its X25519 and BLAKE2b use AVX where the processor has
it. `python -m bench.primitives` prints this table alone."""

SCALING = """\
Pairs of hosts, all peers but one of which do not exist, take turns; each has room for exactly its
peers. `seal` and `open` for 1420 bytes on the maps of such a host, every peer with an association:
for one peer again and again, and for each packet another."""

RESTART = """\
Time since a restart that left neither maps nor associations. Then a packet leaves for every peer
at once; all peers are answered for by one process on the same machine, with an address each."""

STEPS = """\
`seal` and `open` by themselves, as they are and built without parts of the cryptography (in
`bench/bpf`, which no release knows), on one core:"""

PARTS = "A packet of 1420 bytes, by differences of these:"

PATHS = """\
One TCP flow, spread, over plain veth, brine without cryptography, and brine:"""

SAMPLES = """\
Where `perf` finds the CPUs during brine's flow, by its software clock; a BPF program's own
look-ups of arrays are inlined, and count as the program's:"""

FORGED = """\
What messages of the exchange cost in XDP that do not reach the daemon; the least of 50 runs."""

FLOOD = """\
INITIATIONs with the right mac1, each from an address of its own, while a TCP flow goes through
brine. "Elsewhere": the same packets to a port that nobody listens on, which shows what making and
receiving them takes from this machine. The rest is what brine spends on them."""
