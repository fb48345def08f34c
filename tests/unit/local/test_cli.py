from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from airflow_knative.cli.local import app
from airflow_knative.local.errors import LocalError
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.view import duration

if TYPE_CHECKING:
    from pathlib import Path

run = CliRunner().invoke


def test_status_of_nothing_is_exit_code_3(tmp_path: Path) -> None:
    result = run(app, ["status", "--state", str(tmp_path / "s"), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"state": "down"}


def test_down_of_nothing_is_fine(tmp_path: Path) -> None:
    result = run(app, ["down", "--state", str(tmp_path / "s")])
    assert result.exit_code == 0
    assert "Nothing runs" in result.stdout


def test_purge_wants_to_be_sure(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "s")
    paths.create()
    paths.lock.touch()
    result = run(app, ["down", "--purge", "--state", str(paths.root)])
    assert isinstance(result.exception, LocalError)
    assert "--yes" in str(result.exception)
    assert paths.root.exists()
    assert run(app, ["down", "--purge", "--yes", "--state", str(paths.root)]).exit_code == 0
    assert not paths.root.exists()


def test_up_wants_a_folder_of_workflows(tmp_path: Path) -> None:
    result = run(app, ["up", "--workflows", str(tmp_path / "none"), "--state", str(tmp_path / "s"), "--port-base", "0"])
    assert isinstance(result.exception, LocalError)
    assert str(tmp_path / "none") in str(result.exception)


def test_logs_of_an_unknown_part_names_the_known(tmp_path: Path) -> None:
    result = run(app, ["logs", "nonsense", "--state", str(tmp_path)])
    assert isinstance(result.exception, LocalError)
    assert "scheduler" in str(result.exception)


def test_logs_shows_the_last_lines_of_each_part(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "s")
    paths.create()
    paths.log("scheduler").write_text("one\ntwo\nthree\n")
    paths.log("gateway").write_text("four\n")
    result = run(app, ["logs", "-n", "2", "--state", str(paths.root)])
    assert result.stdout.splitlines() == ["scheduler | two", "scheduler | three", "gateway   | four"]


def test_logs_of_a_service_are_those_of_its_newest_worker(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "s")
    paths.create()
    for number, age in ((1, 100), (2, 200)):
        path = paths.worker_logs / f"svc.{number}.log"
        path.write_text(f"worker {number}\n")
        os.utime(path, (age, age))
    assert run(app, ["logs", "svc", "--state", str(paths.root)]).stdout == "worker 2\n"


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (5.9, "5s"), (200, "3m 20s"), (7300, "2h 1m")])
def test_durations_have_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
