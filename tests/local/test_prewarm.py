"""Services are started ahead of their tasks, and only those whose tasks will run."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from .stack import DAGS, Stack
from .workers import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(400)


def _started(stack: Stack) -> set[str]:
    """Return the tasks of the DAG `ahead` whose services have had a worker: each worker has a log."""
    logs = (stack.state / "logs" / "workers").glob("airflow-worker-ahead-*.log")
    return {path.name.split(".")[0].removeprefix("airflow-worker-ahead-") for path in logs}


def _ready(stack: Stack) -> set[str]:
    """Return the tasks of the DAG `ahead` whose services have a worker that takes requests."""
    services = (service for service in stack.status()["services"] if service["dag_id"] == "ahead")
    return {
        service["task_id"] for service in services if any(worker["state"] == "ready" for worker in service["workers"])
    }


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A file that the first task waits for, and with it all others."""
    return tmp_path / "go-on"


def test_services_start_before_their_turn_and_only_those_of_tasks_that_will_run(stack: Stack, held: Path) -> None:
    run_id = stack.start("ahead", str(held))
    # Two steps ahead, but not behind the branch; the last one is three steps away.
    # Until they are ready: a request of the task itself would take the place of a nudge that still waits.
    eventually(lambda: _ready(stack) >= {"first", "second", "third", "choose"}, within=120.0)
    assert stack.task("ahead", run_id, "second")["state"] in {None, "none"}
    assert _started(stack) == {"first", "second", "third", "choose"}
    held.touch()
    assert stack.wait_for("ahead", run_id, "success", "failed", within=180.0) == "success"
    assert _started(stack) == {"first", "second", "third", "choose", "left", "after-left", "last"}
    shown = json.loads(stack.command("timeline", "ahead", run_id, "--json").stdout)
    ahead = {task["task_id"]: task["prewarm_ms"] for task in shown["tasks"]}
    assert ahead["first"] is None
    assert ahead["right"] is None
    nudged, ready = ahead["second"]
    assert nudged < ready
    started = {task["task_id"]: task["start_ms"] for task in shown["tasks"]}
    assert nudged < started["second"]


@pytest.fixture
def without(tmp_path: Path) -> Iterator[Stack]:
    workflows = tmp_path / "workflows"
    workflows.mkdir()
    shutil.copy(DAGS / "ahead.py", workflows)
    with Stack(tmp_path, workflows).running(AIRFLOW__KNATIVE__PREWARM="False") as stack:
        yield stack


def test_off_means_off(without: Stack, held: Path) -> None:
    run_id = without.start("ahead", str(held))
    without.wait_for_task("ahead", run_id, "first", "running")
    eventually(held.with_suffix(".began").exists, within=120.0)
    time.sleep(3)  # long enough for what must not happen
    assert _started(without) == {"first"}
    held.touch()
    assert without.wait_for("ahead", run_id, "success", "failed", within=180.0) == "success"
    shown = json.loads(without.command("timeline", "ahead", run_id, "--json").stdout)
    assert {task["prewarm_ms"] for task in shown["tasks"]} == {None}
