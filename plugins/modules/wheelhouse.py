#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect brine and everything it needs into one archive of wheels."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheelhouse
short_description: Collect brine and everything it needs into one archive of wheels
version_added: 1.0.0
description:
  - Builds brine's own wheel from a source tree, fetches the pinned wheels of its
    dependencies for the Python and the architecture of the hosts, and packs them.
  - An archive is made once; its key is a hash of all that it is made from.
  - Runs on the controller, with the pip of the Python it runs under, which follows that
    pip's configuration. A controller without internet needs an index of its own or
    C(PIP_FIND_LINKS).
author: The brine authors (@brine)
options:
  source:
    description: The directory with C(pyproject.toml) and the package C(brine).
    type: path
    required: true
  requirements:
    description: The dependencies, pinned by hash.
    type: path
    required: true
  python:
    description: Version of the hosts' Python.
    type: str
    required: true
  machine:
    description: Architecture of the hosts.
    type: str
    required: true
    choices: [x86_64, aarch64]
  cache:
    description: The directory that keeps the archives.
    type: path
    required: true
attributes:
  check_mode:
    description: Does the same in check mode. The archive is a cache of the controller's.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  platform:
    description: Where the module runs.
    support: full
    platforms: posix
"""

EXAMPLES = r"""
- name: Collect the wheels
  brine.mesh.wheelhouse:
    source: /usr/share/ansible/collections/ansible_collections/brine/mesh
    requirements: /usr/share/ansible/collections/ansible_collections/brine/mesh/roles/package/files/requirements.txt
    python: "3.11"
    machine: x86_64
    cache: ~/.cache/brine/wheelhouses
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
path:
  description: The archive.
  returned: always
  type: str
key:
  description: The hash of what the archive is made from.
  returned: always
  type: str
"""

import io
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils.content import content_key, sources

# glibc of the oldest supported hosts (Debian 12: 2.36) and what came before.
MANYLINUX = ("2_36", "2_35", "2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")


def run_pip(module: AnsibleModule, *arguments: str) -> None:
    code, out, err = module.run_command(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    )
    if code == 0:
        return
    if "No module named pip" in err:
        module.fail_json(
            msg=f"{sys.executable} on the controller has no pip. "
            "Next: install it (Debian: python3-pip), or run Ansible from a virtual environment."
        )
    last = [line for line in (err or out).splitlines() if "ERROR" in line] or [err.strip() or out]
    module.fail_json(
        msg=f"pip {arguments[0]} on the controller failed: {last[0]}. Next: give it an index, "
        "or a directory of wheels in PIP_FIND_LINKS; see its output.",
        stdout=out,
        stderr=err,
    )


def platform_options(python: str, machine: str) -> list[str]:
    """What makes pip choose wheels for the hosts instead of for the controller."""
    options = ["--implementation", "cp", "--python-version", python]
    for abi in (f"cp{python.replace('.', '')}", "abi3", "none"):
        options += ["--abi", abi]
    for version in MANYLINUX:
        options += ["--platform", f"manylinux_{version}_{machine}"]
    return [*options, "--platform", f"manylinux2014_{machine}"]


def build_wheel(module: AnsibleModule, root: Path, files: list[Path], wheels: Path) -> None:
    """Build brine's wheel. Backends write beside what they build: give them a copy."""
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as directory:
        for path in files:
            copy = Path(directory, path.relative_to(root))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        run_pip(module, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), directory)


def pack(wheels: Path, archive: Path) -> None:
    """Pack all files of `wheels`, the same bytes for the same wheels."""
    descriptor, name = tempfile.mkstemp(dir=archive.parent)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for wheel in sorted(wheels.iterdir()):
            member = tarfile.TarInfo(wheel.name)
            content = wheel.read_bytes()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    os.replace(name, archive)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "requirements": {"type": "path", "required": True},
            "python": {"type": "str", "required": True},
            "machine": {"type": "str", "required": True, "choices": ["x86_64", "aarch64"]},
            "cache": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["source"]).resolve()
    requirements = Path(module.params["requirements"])
    python, machine = module.params["python"], module.params["machine"]
    files = [
        *(root / name for name in ("pyproject.toml", "README.md", "LICENSE")),
        *sources(root / "brine"),
    ]
    files = [path for path in files if path.exists()]
    key = content_key(root, files, requirements.read_text(encoding="utf-8"), python, machine)
    archive = Path(module.params["cache"]) / f"{key}.tar"
    changed = not archive.exists()
    if changed:
        archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=module.tmpdir) as directory:
            wheels = Path(directory)
            build_wheel(module, root, files, wheels)
            run_pip(
                module,
                *("download", "--quiet", "--require-hashes", "--no-deps"),
                *("--only-binary", ":all:", "--dest", directory),
                *platform_options(python, machine),
                *("--requirement", str(requirements)),
            )
            pack(wheels, archive)
    module.exit_json(changed=changed, path=str(archive), key=key)


if __name__ == "__main__":
    main()
