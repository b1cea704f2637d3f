# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.fuzz [--seconds N] [TARGET ...]`: every target, or those named, for so long.

Corpora stay in build/fuzz, so that the next run begins where this one ended. What is
found lies in build/fuzz/found; put it into tests/fuzz/regressions/TARGET and mend it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tests.fuzz import native, python_targets

ROOT = Path(__file__).resolve().parents[2]
REGRESSIONS = Path(__file__).resolve().parent / "regressions"
# The interpreter and the instrumented modules take most of it.
COMMON = ("-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").split(":")[0])
    names = [*native.TARGETS, *python_targets.TARGETS]
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(names):
        parser.error(f"there is no target {sorted(unknown)[0]}")
    failed = [
        name
        for name in given.targets or names
        if not run(name, given.directory, [f"-max_total_time={given.seconds}"])
    ]
    if failed:
        print(f"error: found something: {', '.join(failed)}.", file=sys.stderr)
        print(f"  Next: see {given.directory / 'found'}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, directory: Path, limits: Sequence[str]) -> bool:
    """Fuzz one target. Whether nothing was found."""
    corpus, found = directory / "corpus" / name, directory / "found"
    for path in (corpus, found, directory / "build"):
        path.mkdir(parents=True, exist_ok=True)
    if name in native.TARGETS:
        command = [str(native.build(name, directory / "build"))]
        seeds = native.seeds(name)
    else:
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(directory / "build")]
        seeds = python_targets.TARGETS[name](directory / "build").seeds
    for seed in seeds:
        (corpus / sha256(seed).hexdigest()[:40]).write_bytes(seed)
    command += [*COMMON, *limits, f"-artifact_prefix={found}/{name}-", str(corpus)]
    if (REGRESSIONS / name).is_dir():
        command.append(str(REGRESSIONS / name))
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )  # fmt: skip
    said = done.stdout.splitlines()
    figures = {
        what: line.rpartition(" ")[2]
        for line in said
        for what in ("number_of_executed_units", "average_exec_per_sec")
        if what in line
    }
    covered = next((line for line in reversed(said) if " cov: " in line), "")
    _, _, edges = covered.partition(" cov: ")
    print(
        f"{name}: {'nothing found' if not done.returncode else 'FOUND SOMETHING'},"
        f" {figures.get('number_of_executed_units', '?')} inputs,"
        f" {figures.get('average_exec_per_sec', '?')} a second,"
        f" {edges.partition(' ')[0] or '?'} edges",
        flush=True,
    )
    if done.returncode:
        print("\n".join(said[-60:]), file=sys.stderr)
    return not done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
