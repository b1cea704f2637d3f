# SPDX-License-Identifier: GPL-3.0-or-later
"""Which XDP modes will do on which kernel and underlay."""

from __future__ import annotations

from pathlib import Path

import pytest

from brine import survey
from brine.config import Config, Paths
from brine.errors import BrineError
from brine.netdev import Link

BOTH = ("native", "generic")


def config(mode: str = "auto", mtu: int | None = None) -> Config:
    return Config(
        bpffs=Path("/sys/fs/bpf/brine"),
        copy_dscp=False,
        interface="eth0",
        kernel_derivation=True,
        max_peers=8,
        mtu=mtu,
        object=Path("/opt/brine/brine.bpf.o"),
        port=4747,
        roaming=False,
        xdp_mode=mode,
        paths=Paths(),
    )


def underlay(mtu: int) -> Link:
    return Link(
        index=2,
        mtu=mtu,
        up=True,
        arp=True,
        mac=bytes(6),
        kind="",
        xdp_program=0,
        xdp_mode=None,
    )


@pytest.mark.parametrize(
    ("release", "mtu", "inner", "modes"),
    [
        ("6.1.0-50-cloud-amd64", 1500, None, BOTH),
        ("6.1.0-50-cloud-amd64", 9000, None, ("generic",)),
        ("6.1.0-50-cloud-amd64", 9000, 3400, BOTH),
        ("6.3.0", 9000, None, BOTH),
        ("6.12.117+deb13-amd64", 9000, None, BOTH),
    ],
)
def test_modes(release: str, mtu: int, inner: int | None, modes: tuple[str, ...]) -> None:
    assert survey.modes(config(mtu=inner), underlay(mtu), release) == modes


def test_native_that_would_lose_packets_is_refused() -> None:
    assert survey.modes(config("native"), underlay(1500), "6.1.0") == ("native",)
    assert survey.modes(config("generic"), underlay(9000), "6.1.0") == ("generic",)
    with pytest.raises(BrineError, match=r"before Linux 6\.3.*brine_mtu to 3400"):
        survey.modes(config("native"), underlay(9000), "6.1.0")
