"""Tasks of roles and whole playbooks, run on this machine alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[3]
Playbook = list[dict[str, Any]]


def tasks_of(file: str, *names: str) -> Playbook:
    """The tasks of these names in a file of tasks, in its order."""
    tasks = yaml.safe_load((REPOSITORY / file).read_text())
    found = [task for task in tasks if task["name"] in names]
    assert [task["name"] for task in found] == list(names)
    return found


def local(tasks: Playbook, **variables: Any) -> Playbook:
    """A playbook that runs these tasks on this machine."""
    return [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}]


def play(
    folder: Path,
    playbook: str | Playbook,
    *arguments: str,
    inventory: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """What a playbook said: one of the repository by its path, or one that a test made."""
    hosts = folder / "inventory" / "hosts.yml"
    hosts.parent.mkdir(exist_ok=True)
    hosts.write_text(yaml.safe_dump({"all": inventory or {}}))
    if not isinstance(playbook, str):
        path = folder / "play.yml"
        path.write_text(yaml.safe_dump(playbook))
        playbook = str(path)
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "--inventory", hosts, playbook, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CACHE_PLUGIN": "memory", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
