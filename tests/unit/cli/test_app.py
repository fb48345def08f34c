from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest
import typer
from typer.testing import CliRunner

from airflow_knative import __version__
from airflow_knative.cli import main
from airflow_knative.cli.app import app
from airflow_knative.cli.lazy import LazyCommand, LazyGroup

COMMANDS = ("run", "timeline", "services", "local", "keys", "wakeup")


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output == f"airflow-knative {__version__}\n"


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert name in result.output


@pytest.mark.parametrize("name", ["run", "timeline", "services", "keys", "wakeup"])
def test_every_command_has_help_without_options_of_the_root(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert "completion" not in result.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['airflow-knative', '--help']\n"
        "from airflow_knative.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'airflow', 'httpx', 'pydantic', 'sqlalchemy', 'airflow_knative.local'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_is_told() -> None:
    result = CliRunner().invoke(app, ["nonsense"])
    assert result.exit_code == 2
    assert "nonsense" in result.output


class _Group(LazyGroup):
    lazy: ClassVar[dict[str, LazyCommand]] = {
        "missing": LazyCommand("this_is_not_installed.at_all:app", "Help.", "some-extra"),
    }


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    other = typer.Typer(cls=_Group)
    other.callback()(lambda: None)
    monkeypatch.setattr("airflow_knative.cli.app.app", lambda: other(["missing", "--option", "x"]))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert "'this_is_not_installed'" in error
    assert "pip install 'airflow-knative[some-extra]'" in error


def test_help_works_where_the_extra_is_missing() -> None:
    other = typer.Typer(cls=_Group)
    other.callback()(lambda: None)
    result = CliRunner().invoke(other, ["--help"])
    assert result.exit_code == 0
    assert "missing" in result.output
