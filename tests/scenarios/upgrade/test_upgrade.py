# SPDX-License-Identifier: GPL-3.0-or-later
"""Another version takes the place of the installed one while packets flow between all hosts, and
gives it back if it is no good. The other versions are copies of this one, changed and installed as
a user would have them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bpf import other_layout
from tests.labs import BRINE, HOSTS, ROOT, Lab, Played
from tests.probing import probing

Change = Callable[[Path], None]
VERSION = "9.9.9"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path, text.count(old))
    path.write_text(text.replace(old, new))


def newer(root: Path) -> None:
    """A version that differs in both the daemon and the programs, and works."""
    package = root / "brine/__init__.py"
    text = package.read_text()
    package.write_text(
        "\n".join(
            f'__version__ = "{VERSION}"' if line.startswith("__version__") else line
            for line in text.splitlines()
        )
        + "\n"
    )
    programs = root / "bpf/brine.bpf.c"
    programs.write_text(
        f"{programs.read_text()}\n__noinline int version_{VERSION.replace('.', '_')}(void)"
        "\n{\n\treturn 9;\n}\n"
    )


def no_daemon(root: Path) -> None:
    """A version whose daemon ends at once."""
    newer(root)
    replace(
        root / "brine/daemon/main.py",
        "def main(",
        'raise SystemExit("this version is broken")\n\n\ndef main(',
    )


def newer_layout(root: Path) -> None:
    """A version whose maps are others, and which works."""
    newer(root)
    other_layout.change(root / "bpf")


def newer_layout_no_daemon(root: Path) -> None:
    """One whose maps are others, and whose daemon ends at once."""
    no_daemon(root)
    other_layout.change(root / "bpf")


def refused(root: Path) -> None:
    """A version whose programs the kernel refuses, after the host was told to look for trouble."""
    newer(root)
    programs = root / "bpf/brine.bpf.c"
    programs.write_text(
        f'{programs.read_text()}\nSEC("tc") int refused(struct __sk_buff *skb)'
        "\n{\n\treturn *(int *)(long)skb->len;\n}\n"
    )


def not_well(root: Path) -> None:
    """A version that starts, and finds at the gate that the host is not well."""
    newer(root)
    replace(
        root / "brine/gate.py",
        "    try:\n        before = status.collect(config)\n",
        '    try:\n        raise BrineError("this version finds that it is no good", "mend it")\n',
    )


class Version:
    """The collection, changed, in a directory of a user's own."""

    def __init__(self, directory: Path, change: Change) -> None:
        self.collections = directory / "collections"
        root = self.collections / "ansible_collections/brine/mesh"
        root.mkdir(parents=True)
        for name in ("bpf", "brine", "meta", "playbooks", "plugins", "roles"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("galaxy.yml", "LICENSE", "pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, root / name)
        change(root)
        self.directory = directory
        self.environment = {"ANSIBLE_COLLECTIONS_PATH": str(self.collections)}

    def play(self, lab: Lab, playbook: str, *arguments: str) -> Played:
        return lab.play(
            playbook, *arguments, environment=self.environment, directory=self.directory
        )

    def play_until(self, lab: Lab, line: str, playbook: str) -> Played:
        """Killed at the line."""
        return lab.play_until(
            line, 1, playbook, environment=self.environment, directory=self.directory
        )


@pytest.fixture
def version(tmp_path: Path) -> Callable[[Change], Version]:
    return lambda change: Version(tmp_path, change)


def installed(lab: Lab, host: str) -> tuple[str, ...]:
    """What is there, and what runs."""
    return tuple(
        lab.run(host, command).strip()
        for command in (
            "readlink -f /opt/brine/venv",
            "sha256sum /opt/brine/brine.bpf.o",
            "ls /sys/fs/bpf/brine/v*",  # one of the names is the digest of the loaded object
            "sha256sum /etc/brine/config.json /etc/systemd/system/brine*.service",
        )
    )


def is_armed(lab: Lab, host: str) -> bool:
    """Whether the host is about to take `open` off its interface."""
    return lab.try_(host, "systemctl is-active brine-lifeline.timer").stdout.strip() == "active"


def running(lab: Lab, host: str) -> str:
    found: str = lab.status(host)["daemon"]["version"]
    return found


@pytest.fixture(autouse=True)
def tidy(mesh: Lab) -> Iterator[None]:
    yield
    for host in HOSTS:
        assert not mesh.run(host, "ls -A /opt/brine | grep former; true")
        assert mesh.run(host, "systemctl --failed --no-legend") == ""
        assert not is_armed(mesh, host)


def test_a_daemon_restart_loses_nothing(mesh: Lab) -> None:
    before = {host: mesh.status(host)["daemon"]["pid"] for host in HOSTS}
    with probing(mesh) as count:
        for host in HOSTS:
            mesh.run(host, "systemctl restart brined")
            mesh.run(host, "systemctl kill --signal=KILL brined")
            mesh.run(host, "until systemctl is-active --quiet brined; do sleep 0.2; done")
    print(count)
    assert count.lost == count.duplicated == 0
    assert not set(before.values()) & {mesh.status(host)["daemon"]["pid"] for host in HOSTS}


def wait_for_handover(lab: Lab, host: str) -> None:
    """Until no former programs are at work."""
    deadline = time.monotonic() + 400  # beyond the life of their keys
    while lab.status(host)["former"] is not None:
        assert time.monotonic() < deadline, lab.status(host)["former"]
        time.sleep(1)


@pytest.mark.parametrize("change", [no_daemon, refused, not_well, newer_layout_no_daemon])
def test_a_version_that_is_no_good_is_put_back(
    mesh: Lab, version: Callable[[Change], Version], change: Change
) -> None:
    """The canary alone has had it, and is as it was."""
    before = {host: installed(mesh, host) for host in HOSTS}
    bad = version(change)
    with probing(mesh) as count:
        played = bad.play(mesh, "brine.mesh.upgrade", "-vvv")
        wait_for_handover(mesh, "lab1")
    print(count)
    assert played.status != 0
    assert played.secrets == len(HOSTS)
    assert "The upgrade has stopped in this batch" in played.output
    assert "what was installed before is back and works" in played.output
    assert {host: installed(mesh, host) for host in HOSTS} == before
    assert count.lost == count.duplicated == 0
    assert played.recap()["lab1"]["rescued"] == 1
    assert played.recap()["lab2"]["changed"] == played.recap()["lab3"]["changed"] == 0


def test_upgrade_loses_nothing(mesh: Lab, version: Callable[[Change], Version]) -> None:
    before = {host: installed(mesh, host) for host in HOSTS}
    good = version(newer)
    predicted = good.play(mesh, "brine.mesh.upgrade", "--check")
    assert predicted.status == 0, predicted.output
    assert {host: installed(mesh, host) for host in HOSTS} == before
    with probing(mesh) as count:
        # Once it was killed, where the canary has the new package and runs the former daemon.
        good.play_until(mesh, "TASK [brine.mesh.exchange : Write the unit]", "brine.mesh.upgrade")
        assert running(mesh, "lab1") != VERSION
        assert installed(mesh, "lab1")[0] != before["lab1"][0]
        played = good.play(mesh, "brine.mesh.upgrade", "-vvv")
    print(count)
    assert played.status == 0, played.output
    assert played.secrets == len(HOSTS)
    assert count.lost == count.duplicated == 0
    for host in HOSTS:
        assert running(mesh, host) == VERSION
        after = installed(mesh, host)
        assert before[host][0] != after[0]  # the environment
        assert before[host][1] != after[1]  # the object on the disk
        assert before[host][2] != after[2]  # the one that is loaded
    again = good.play(mesh, "brine.mesh.upgrade")
    assert again.status == 0, again.output
    assert again.changed() == dict.fromkeys(HOSTS, 0), again.output


def test_another_layout_loses_nothing_there_and_back(mesh: Lab, tmp_path: Path) -> None:
    """Also where the daemon is killed while the former programs are at work."""
    with probing(mesh) as count:
        for change in (newer_layout, newer):
            before = {host: mesh.run(host, "ls /sys/fs/bpf/brine") for host in HOSTS}
            directory = tmp_path / change.__name__
            played = Version(directory, change).play(mesh, "brine.mesh.upgrade", "-vvv")
            assert played.status == 0, played.output
            for host in HOSTS:
                mesh.run(host, "systemctl kill --signal=KILL brined")
            for host in HOSTS:
                mesh.run(host, "until systemctl is-active --quiet brined; do sleep 0.2; done")
                wait_for_handover(mesh, host)
                pinned = mesh.run(host, "ls /sys/fs/bpf/brine").split()
                assert len(pinned) == 1, pinned
                assert pinned != before[host].split()
    print(count)
    assert count.lost == count.duplicated == 0


LIFELINE = """
- name: Change the data path, and be cut off
  hosts: lab1
  gather_facts: false
  tasks:
    - name: Apply it
      brine.mesh.dataplane:
        lifeline: "{{ lifeline | default(4) }}"
    - name: Show that the host can still be reached
      brine.mesh.dataplane:
        state: reached
      when: reached | bool
"""


@pytest.mark.parametrize("reached", [False, True])
def test_a_change_that_cuts_off_is_taken_back(mesh: Lab, tmp_path: Path, reached: bool) -> None:
    """Unless somebody comes back, the host gives its interface free by itself."""
    playbook = tmp_path / "lifeline.yml"
    playbook.write_text(LIFELINE)
    mesh.run("lab1", f"{BRINE} dataplane detach")
    assert mesh.status("lab1")["xdp_mode"] is None
    played = mesh.play(str(playbook), "-e", f"reached={reached}")
    assert played.status == 0, played.output
    assert played.changed()["lab1"] == 1
    if not reached:
        assert is_armed(mesh, "lab1")
    time.sleep(8)
    assert mesh.status("lab1")["xdp_mode"] == ("native" if reached else None)
    again = mesh.play("site.yml", "--limit", "lab1")
    assert again.status == 0, again.output
    assert mesh.status("lab1")["xdp_mode"] == "native"


def test_a_killed_play_takes_nothing_down_once_it_is_run_again(mesh: Lab, tmp_path: Path) -> None:
    """It was killed before it had shown that the host can be reached; the next one has nothing to
    change."""
    playbook = tmp_path / "lifeline.yml"
    playbook.write_text(LIFELINE)
    before = mesh.play("site.yml", "--limit", "lab1")
    assert before.status == 0, before.output
    mesh.run("lab1", f"{BRINE} dataplane detach")
    killed = mesh.play(str(playbook), "-e", "reached=false", "-e", "lifeline=600")
    assert killed.status == 0, killed.output
    assert is_armed(mesh, "lab1")
    again = mesh.play("site.yml", "--limit", "lab1")
    assert again.status == 0, again.output
    assert again.changed() == {"lab1": 0}
    assert not is_armed(mesh, "lab1")
    assert mesh.status("lab1")["xdp_mode"] == "native"


def test_a_member_that_is_off_holds_no_upgrade_up(
    mesh: Lab, version: Callable[[Change], Version]
) -> None:
    """Those that are there are upgraded, and lose nothing between them."""
    there = ("lab1", "lab2")
    good = version(newer)
    mesh.power_off("lab3")
    try:
        with probing(mesh, there) as count:
            played = good.play(mesh, "brine.mesh.upgrade")
    finally:
        mesh.up()
    print(count)
    recap = played.recap()
    assert recap["lab3"]["unreachable"] == 1
    for host in there:
        assert recap[host]["failed"] == recap[host]["rescued"] == 0, played.output
        assert running(mesh, host) == VERSION
    assert "The upgrade has stopped" not in played.output
    assert count.lost == count.duplicated == 0
    for host in HOSTS:
        assert mesh.reached(host, 60) == set(HOSTS) - {host}
