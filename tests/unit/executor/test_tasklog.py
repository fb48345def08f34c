from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_knative.executor import tasklog
from airflow_knative.executor.tasklog import TaskLog

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_lines_and_events_are_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasklog, "init_log_file", lambda path: tmp_path / path)
    for word in ("first", "second"):
        with TaskLog("log") as log:
            log.lines([word, f"{word} again\n"])
            log.event("error", "why", code=1)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[:2] == ["first", "first again"]
    assert json.loads(lines[5]) | {"timestamp": ""} == {
        "timestamp": "", "level": "error", "event": "why", "logger": "airflow_knative.dispatcher", "code": 1,
    }  # fmt: skip


def test_a_log_that_cannot_be_written_costs_nothing_but_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasklog, "init_log_file", lambda path: tmp_path / path)
    with TaskLog("missing/folder") as log:
        log.lines(["nowhere"])
    (tmp_path / "full").symlink_to("/dev/full")
    with TaskLog("full") as log:
        log.lines(["nowhere"])
        log.event("info", "nor this")
