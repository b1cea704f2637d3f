# SPDX-License-Identifier: GPL-3.0-or-later
"""The peers' programs: a Debian root file system that holds them all, made once.

Debian unstable, since it has the newest of each; nothing of it is installed on
this machine. Peers run in it by chroot, inside a host's network namespace.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITE = "sid"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "fastd",
    "iproute2",
    "libcharon-extra-plugins",
    "libstrongswan-standard-plugins",
    "nebula",
    "openvpn",
    "procps",
    "quicktun",
    "strongswan-charon",
    "strongswan-swanctl",
    "tinc",
    "wireguard-go",
    "wireguard-tools",
)
CACHE = Path("/var/cache/brine-bench")
MOUNTS = ("dev", "proc", "sys")


def root() -> Path:
    """The root file system, made if it is not there.

    :raises CalledProcessError: if mmdebstrap fails; it has said why.
    """
    recipe = "\n".join((SUITE, MIRROR, *PACKAGES))
    path = CACHE / f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if path.exists():
        return path
    unfinished = path.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"bench: making {path} (about a minute)", flush=True)
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
            # An offline mirror may be older than its Release file likes.
            "--aptopt=Acquire::Check-Valid-Until false",
            f"--include={','.join(PACKAGES)}",
            *(SUITE, str(unfinished), MIRROR),
        ],
        check=True,
    )
    unfinished.rename(path)
    return path


def versions(path: Path) -> dict[str, str]:
    """Package versions by name."""
    output = subprocess.run(
        ["dpkg-query", f"--admindir={path}/var/lib/dpkg", "-W", "-f=${Package} ${Version}\n"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pairs = (line.split() for line in output.splitlines())
    return {pair[0]: pair[1] for pair in pairs if pair[0] in PACKAGES}


@contextmanager
def mounted(path: Path, run: Path) -> Iterator[None]:
    """The root with this machine's devices, and `run` as its /run."""
    points = [path / name for name in MOUNTS] + [path / "run"]
    done: list[Path] = []
    try:
        for name, point in zip(MOUNTS, points, strict=False):
            subprocess.run(
                ["mount", "--rbind", "--make-rslave", f"/{name}", str(point)], check=True
            )
            done.append(point)
        subprocess.run(["mount", "--bind", str(run), str(points[-1])], check=True)
        done.append(points[-1])
        yield
    finally:
        for point in reversed(done):
            subprocess.run(["umount", "--recursive", "--lazy", str(point)], check=False)
