# SPDX-License-Identifier: GPL-3.0-or-later
"""Print a table of docs/scale.md, or make an inventory."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.scale import controller, host, inventory, site


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scale")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("controller", "host", "site"):
        verbs.add_parser(verb).add_argument("hosts", nargs="+", type=int)
    made = verbs.add_parser("inventory")
    made.add_argument("hosts", type=int)
    made.add_argument("directory", type=Path)
    options = parser.parse_args()
    if options.verb == "controller":
        print(controller.table(options.hosts))
    elif options.verb == "host":
        print(host.table(options.hosts))
    elif options.verb == "site":
        for line in site.table(options.hosts):
            print(line, flush=True)
    else:
        inventory.make(options.directory, options.hosts)
        inventory.make_store(options.directory, options.hosts)


if __name__ == "__main__":
    main()
