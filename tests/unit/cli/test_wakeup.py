from __future__ import annotations

import sys
from types import ModuleType

import pytest
from typer.testing import CliRunner

from airflow_knative.cli.app import app


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the module that needs Airflow and a database."""
    done: list[str] = []
    fake = ModuleType("airflow_knative.executor.wakeup")
    for name in ("install", "remove"):
        setattr(fake, name, lambda name=name: done.append(name))
    fake.status = lambda: "install" in done  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return done


@pytest.mark.parametrize("name", ["install", "remove"])
def test_commands_are_passed_on(calls: list[str], name: str) -> None:
    result = CliRunner().invoke(app, ["wakeup", name])
    assert result.exit_code == 0, result.output
    assert calls == [name]


def test_status_tells_by_its_exit_code(calls: list[str]) -> None:
    result = CliRunner().invoke(app, ["wakeup", "status"])
    assert (result.exit_code, result.output) == (1, "not installed\n")
    calls.append("install")
    result = CliRunner().invoke(app, ["wakeup", "status"])
    assert (result.exit_code, result.output) == (0, "installed\n")
