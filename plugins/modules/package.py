#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install brine from a wheelhouse into a virtual environment of its own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package
short_description: Install brine from a wheelhouse
version_added: 1.0.0
description:
  - Makes a virtual environment from the wheels of one archive, and then moves the
    link C(venv) to it, so a host never has half an installation.
  - Needs no network, no pip and no C(python3-venv) on the host. pip is one of the wheels.
  - The environment that was in use before is kept, and the one that a running daemon was started
    from; older ones are removed.
author: The brine authors (@brine)
options:
  archive:
    description: The wheelhouse on the host, as M(brine.mesh.wheelhouse) makes it.
    type: path
    required: true
  key:
    description: The wheelhouse's key. An environment made from it is not made again.
    type: str
    required: true
  root:
    description: The directory that holds the environments and the link.
    type: path
    default: /opt/brine
attributes:
  check_mode:
    description: Predicts whether another environment would come into use.
    support: full
  diff_mode:
    description: Shows the environment in use.
    support: full
  platform:
    description: Where the module runs.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Install brine
  brine.mesh.package:
    archive: /opt/brine/wheelhouse.tar
    key: 0f343b0931126a20f133d67c2b018a3b
"""

RETURN = r"""
environment:
  description: The virtual environment that C(venv) leads to.
  returned: always
  type: str
  sample: /opt/brine/venvs/0f343b0931126a20f133d67c2b018a3b
"""

import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.brine.mesh.plugins.module_utils import daemon

COMPLETE = ".complete"  # written last: an environment without it was interrupted


def install(module: AnsibleModule, archive: Path, environment: Path) -> None:
    """Make `environment` from the wheels in `archive`."""
    if environment.exists():
        shutil.rmtree(environment)
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as directory:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member)  # None: no file
                if content is not None and "/" not in member.name:
                    Path(directory, member.name).write_bytes(content.read())
        wheels = sorted(Path(directory).glob("*.whl"))
        pip = next((wheel for wheel in wheels if wheel.name.startswith("pip-")), None)
        if pip is None:
            module.fail_json(msg=f"{archive} is no wheelhouse: it has no pip wheel in it.")
        module.run_command(
            [sys.executable, "-m", "venv", "--without-pip", str(environment)], check_rc=True
        )
        module.run_command(
            [
                *(str(environment / "bin" / "python"), f"{pip}/pip", "--isolated", "install"),
                *("--quiet", "--no-index", "--no-deps", "--no-cache-dir"),
                "--disable-pip-version-check",
                *(str(wheel) for wheel in wheels if wheel != pip),
            ],
            check_rc=True,
        )
    (environment / COMPLETE).touch()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "root": {"type": "path", "default": "/opt/brine"},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    link = root / "venv"
    environment = root / "venvs" / module.params["key"]
    before = os.path.realpath(link) if link.is_symlink() else ""
    changed = before != os.path.realpath(environment) or not (environment / COMPLETE).exists()
    if changed and not module.check_mode:
        os.umask(0o022)
        environment.parent.mkdir(parents=True, exist_ok=True)
        if not (environment / COMPLETE).exists():
            install(module, Path(module.params["archive"]), environment)
        new = root / ".venv.new"
        new.unlink(missing_ok=True)
        new.symlink_to(environment.relative_to(root))
        new.replace(link)
        kept = os.path.realpath(root / "former" / "venv")  # brine.mesh.former
        pid = daemon.main_pid(module)  # it goes on with its own until it is restarted
        used = daemon.environment(pid, root) if pid else None
        for other in environment.parent.iterdir():
            if str(other) not in (str(environment), before, kept, used):
                shutil.rmtree(other)
    module.exit_json(
        changed=changed,
        environment=str(environment),
        diff={
            "before": f"{before}\n" if before else "",
            "after": f"{environment}\n",
            "before_header": str(link),
            "after_header": str(link),
        },
    )


if __name__ == "__main__":
    main()
