# SPDX-License-Identifier: GPL-3.0-or-later
"""``select.py SOURCE > DESTINATION``: the vectors of our suite out of a Noise vector file."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

# No deferred patterns (a digit after a letter of the base name): brine has none.
OURS = re.compile(r"Noise_[NKXI]{1,2}(psk\d(\+psk\d)*)?_25519_ChaChaPoly_BLAKE2b")

if __name__ == "__main__":
    vectors = json.loads(Path(sys.argv[1]).read_text())["vectors"]
    chosen = [one for one in vectors if OURS.fullmatch(one["protocol_name"])]
    json.dump({"vectors": chosen}, sys.stdout, indent=1)
    print()
