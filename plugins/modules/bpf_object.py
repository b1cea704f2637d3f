#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build the BPF object from its sources, once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_object
short_description: Build the BPF object from its sources
version_added: 1.0.0
description:
  - Runs the makefile of the sources with the compiler that was named.
  - An object is built once; its key is a hash of the sources and the compiler's version.
  - BPF code knows no processor, only a byte order. The object serves every little-endian
    architecture.
author: The brine authors (@brine)
options:
  source:
    description: The directory of the sources, on the builder.
    type: path
    required: true
  files:
    description:
      - Names of the files in O(source) that make the object.
      - Others in it, left from an earlier version, are not looked at.
    type: list
    elements: str
    required: true
  clang:
    description: The compiler. Name one that the verifier is known to accept the output of.
    type: str
    default: clang-19
  cache:
    description: The directory that keeps the objects, on the builder.
    type: path
    required: true
attributes:
  check_mode:
    description: Does the same in check mode. The object is a cache of the builder's.
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
- name: Build the object
  brine.mesh.bpf_object:
    source: ~/.cache/brine/bpf
    files: "{{ query('ansible.builtin.fileglob', 'bpf/*.[ch]', 'bpf/Makefile') | map('ansible.builtin.basename') }}"
    cache: ~/.cache/brine/objects
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
path:
  description: The object, on the builder.
  returned: always
  type: str
key:
  description: The hash of what it is built from.
  returned: always
  type: str
compiler:
  description: First line of the compiler's version.
  returned: always
  type: str
"""

import os
import shutil
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils.content import content_key

OBJECT = "brine.bpf.o"
PACKAGES = "on Debian: apt install clang-19 llvm-19 libbpf-dev make"


def compiler_version(module: AnsibleModule, clang: str) -> str:
    path = module.get_bin_path(clang)
    if path is None:
        module.fail_json(
            msg=f"The builder has no {clang}. Next: install it ({PACKAGES}), name another in "
            "brine_clang, or another machine in brine_builder."
        )
    return str(module.run_command([path, "--version"], check_rc=True)[1]).splitlines()[0]


def build(module: AnsibleModule, files: list[Path], clang: str, destination: Path) -> None:
    """Run make on a copy of `files` and move the object to `destination`."""
    make = module.get_bin_path("make")
    if make is None:
        module.fail_json(msg=f"The builder has no make. Next: install it ({PACKAGES}).")
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as directory:
        copy = Path(directory, "bpf")
        copy.mkdir()
        for file in files:
            shutil.copyfile(file, copy / file.name)
        code, out, err = module.run_command(
            [make, "--silent", "-C", str(copy), f"CLANG={clang}", f"BUILD={directory}"]
        )
        if code != 0:
            last = next((line for line in err.splitlines() if "error:" in line), err.strip())
            missing = "file not found" in last
            module.fail_json(
                msg=f"The object could not be built: {last}. Next: "
                + (f"install the headers ({PACKAGES})." if missing else "see its output."),
                stdout=out,
                stderr=err,
            )
        destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = destination.with_suffix(f".{os.getpid()}")  # another play may build it, too
        shutil.copyfile(Path(directory, OBJECT), new)
        new.replace(destination)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str", "required": True},
            "clang": {"type": "str", "default": "clang-19"},
            "cache": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    source, clang = Path(module.params["source"]), module.params["clang"]
    compiler = compiler_version(module, clang)
    files = [source / name for name in sorted(module.params["files"])]
    key = content_key(source, files, compiler)
    path = Path(module.params["cache"]) / key / OBJECT
    changed = not path.exists()
    if changed:
        build(module, files, clang, path)
    module.exit_json(changed=changed, path=str(path), key=key, compiler=compiler)


if __name__ == "__main__":
    main()
