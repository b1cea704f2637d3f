#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep what is installed on a host until what replaces it has shown that it works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: former
short_description: Keep what is installed until its successor has shown that it works
version_added: 1.0.0
description:
  - Keeps copies of the BPF object, the configuration and the units, and a link to the virtual
    environment that is in use, so that an upgrade can be taken back.
  - It only handles files. What runs is the matter of M(brine.mesh.dataplane) and of the service manager.
author: The brine authors (@brine)
options:
  state:
    description:
      - V(kept) makes the copies, unless an upgrade that was cut short has left its own. As they are
        taken away again, this counts as no change.
      - V(restored) puts the copies back in place.
      - V(forgotten) takes the copies away.
    type: str
    choices: [forgotten, kept, restored]
    required: true
  answered:
    description:
      - Names of the peers that answer now, to be kept with the copies. What an upgrade that was cut
        short has kept was told before it changed anything, and is what counts.
      - With O(state=kept).
    type: list
    elements: str
    default: []
  root:
    description: Where brine is installed.
    type: path
    default: /opt/brine
  files:
    description: What is kept, beside the virtual environment C(venv) below O(root). Missing ones are left out.
    type: list
    elements: path
    default:
      - /opt/brine/brine.bpf.o
      - /etc/brine/config.json
      - /etc/systemd/system/brined.service
      - /etc/systemd/system/brine-dataplane.service
      - /etc/systemd/system/brine-guard.service
attributes:
  check_mode:
    description: Predicts without changing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Keep what is installed
  brine.mesh.former:
    state: kept

- name: Put it back
  brine.mesh.former:
    state: restored
"""

RETURN = r"""
answered:
  description: The peers that answered when the copies were made. In check mode, those that do now.
  returned: O(state=kept)
  type: list
  elements: str
environment:
  description: The virtual environment that is kept. Null if none is.
  returned: always
  type: str
"""

import filecmp
import json
import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

COMPLETE = ".complete"  # written last: copies without it were interrupted
ANSWERED = "answered.json"


def keep(directory: Path, link: Path, files: list[Path], answered: list[str]) -> None:
    """Make the copies, and note who answered."""
    if (directory / COMPLETE).exists():
        return
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700)
    (directory / "venv").symlink_to(os.path.realpath(link))
    for file in files:
        if file.exists():
            shutil.copy2(file, directory / file.name)
    (directory / ANSWERED).write_text(json.dumps(answered), encoding="utf-8")
    (directory / COMPLETE).touch()


def differing(directory: Path, link: Path, files: list[Path]) -> list[Path]:
    """What is not as the copies have it."""
    found = [file for file in files if not same(directory / file.name, file)]
    if os.path.realpath(directory / "venv") != os.path.realpath(link):
        found.append(link)
    return found


def same(copy: Path, file: Path) -> bool:
    if not copy.exists() or not file.exists():
        return copy.exists() == file.exists()
    return filecmp.cmp(copy, file, shallow=False)


def restore(directory: Path, link: Path, files: list[Path]) -> None:
    """Put the copies in place, each at once."""
    for file in differing(directory, link, files):
        new = file.with_name(f".{file.name}.former")
        new.unlink(missing_ok=True)
        if file == link:
            target = os.path.realpath(directory / "venv")
            new.symlink_to(os.path.relpath(target, link.parent))
            new.replace(link)
        elif (directory / file.name).exists():
            shutil.copy2(directory / file.name, new)
            new.replace(file)
        else:
            file.unlink()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["forgotten", "kept", "restored"],
                "required": True,
            },
            "answered": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "path", "default": "/opt/brine"},
            "files": {
                "type": "list",
                "elements": "path",
                "default": [
                    "/opt/brine/brine.bpf.o",
                    "/etc/brine/config.json",
                    "/etc/systemd/system/brined.service",
                    "/etc/systemd/system/brine-dataplane.service",
                    "/etc/systemd/system/brine-guard.service",
                ],
            },
        },
        supports_check_mode=True,
    )
    root, state = Path(module.params["root"]), module.params["state"]
    directory, link = root / "former", root / "venv"
    files = [Path(path) for path in module.params["files"]]
    changed = False
    more = {}
    if state == "kept":
        if not link.is_symlink():
            module.fail_json(
                msg=f"There is no {link}. Next: install the mesh on this host first, with site."
            )
        if not module.check_mode:
            keep(directory, link, files, module.params["answered"])
        more["answered"] = module.params["answered"]
        if (directory / ANSWERED).exists() and (directory / COMPLETE).exists():
            more["answered"] = json.loads((directory / ANSWERED).read_text(encoding="utf-8"))
    elif state == "restored":
        if not (directory / COMPLETE).exists():
            module.fail_json(msg=f"There is nothing in {directory} to put back. Next: run site.")
        changed = bool(differing(directory, link, files))
        if changed and not module.check_mode:
            restore(directory, link, files)
    elif directory.exists() and not module.check_mode:
        shutil.rmtree(directory)
    kept = directory / "venv"
    module.exit_json(
        changed=changed,
        environment=os.path.realpath(kept) if kept.is_symlink() else None,
        **more,
    )


if __name__ == "__main__":
    main()
