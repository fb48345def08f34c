"""Every role says what it takes, and takes what it says."""

from __future__ import annotations

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


def test_readmes_are_the_generated_ones() -> None:
    command = [sys.executable, str(REPOSITORY / "scripts" / "role_readmes.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
