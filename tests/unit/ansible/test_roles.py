"""Every role says what it takes, and takes what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_argument_specs_are_the_defaults(role: Path) -> None:
    specs = _read(role / "meta" / "argument_specs.yml")["argument_specs"]
    defaults = _read(role / "defaults" / "main.yml")
    for spec in specs.values():
        assert {name: said["default"] for name, said in spec["options"].items()} == defaults


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_says_what_it_is(role: Path) -> None:
    for spec in _read(role / "meta" / "argument_specs.yml")["argument_specs"].values():
        assert spec["short_description"]
        for name, said in spec["options"].items():
            assert name.startswith(f"{role.name}_")
            assert said["description"].endswith("."), name
            assert said["type"], name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_internal_variables_begin_with_an_underscore(role: Path) -> None:
    internal = role / "vars" / "main.yml"
    names = _read(internal) if internal.exists() else {}
    assert all(name.startswith(f"_{role.name}") for name in names)


def _switches() -> list[str]:
    specs = [_read(role / "meta" / "argument_specs.yml")["argument_specs"] for role in ROLES]
    options = [spec["options"] for said in specs for spec in said.values()]
    return [name for named in options for name, option in named.items() if option["type"] == "bool"]


def test_switches_may_be_text() -> None:
    # -e knative_enabled=false gives one, which Ansible refuses as a condition and Jinja takes for true.
    decides = re.compile(rf"(?:\b(?:when:|that:|if|and|or|not)|^\s*-) (?:{'|'.join(_switches())})\b")
    files = [REPOSITORY / "site.yml", *(REPOSITORY / "playbooks").rglob("*.yml")]
    for part in ("defaults", "tasks", "templates", "vars"):
        files += [path for role in ROLES for path in (role / part).rglob("*.*")]
    uses = [(str(path), line) for path in files for line in path.read_text().splitlines() if decides.search(line)]
    assert len(uses) > 10
    assert [use for use in uses if "| bool" not in use[1]] == []


def test_readmes_are_the_generated_ones() -> None:
    command = [sys.executable, str(REPOSITORY / "scripts" / "role_readmes.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
