"""Parts of a whole instance die while a task runs: it is executed once, and its result counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest

from .workers import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from .stack import Stack

pytestmark = pytest.mark.timeout(300)


def _process(stack: Stack, *words: str) -> psutil.Process:
    """Return the process of the instance whose command line has all of `words`."""
    for process in psutil.Process(stack.status()["pid"]).children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if all(word in line for word in words):
            return process
    raise AssertionError(f"no process with {words}")


def _pid_of(stack: Stack, part: str) -> int | None:
    (pid,) = [one["pid"] for one in stack.status()["parts"] if one["part"] == part]
    return None if pid is None else int(pid)


@pytest.fixture
def go_on(tmp_path: Path) -> Path:
    return tmp_path / "go-on"


def _start(stack: Stack, go_on: Path) -> str:
    run_id = stack.start("talks", str(go_on))
    eventually(go_on.with_suffix(".ledger").exists, within=90.0)
    return run_id


def _assert_done_once(stack: Stack, run_id: str, go_on: Path) -> None:
    go_on.touch()
    assert stack.wait_for("talks", run_id, "success", "failed") == "success"
    assert stack.task("talks", run_id, "talker")["try_number"] == 1
    assert go_on.with_suffix(".ledger").read_text() == "executed\n"


def test_the_dispatcher_dies(stack: Stack, go_on: Path) -> None:
    run_id = _start(stack, go_on)
    first = _process(stack, "airflow_knative.executor.dispatcher")
    first.kill()
    eventually(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)
    eventually(lambda: _process(stack, "airflow_knative.executor.dispatcher").pid != first.pid, within=60.0)
    assert stack.task("talks", run_id, "talker")["state"] == "running"
    _assert_done_once(stack, run_id, go_on)


def test_the_scheduler_dies(stack: Stack, go_on: Path) -> None:
    run_id = _start(stack, go_on)
    first = _pid_of(stack, "scheduler")
    assert first is not None
    psutil.Process(first).kill()
    eventually(lambda: _pid_of(stack, "scheduler") not in {first, None}, within=60.0)
    _assert_done_once(stack, run_id, go_on)


def test_a_paused_dispatcher_loses_nothing(stack: Stack, go_on: Path) -> None:
    run_id = _start(stack, go_on)
    dispatcher = _process(stack, "airflow_knative.executor.dispatcher")
    dispatcher.suspend()
    try:
        go_on.touch()
        time.sleep(2)  # the task ends meanwhile
    finally:
        dispatcher.resume()
    _assert_done_once(stack, run_id, go_on)


def test_a_killed_worker_fails_its_task_with_that_reason(stack: Stack, go_on: Path) -> None:
    run_id = _start(stack, go_on)
    worker = psutil.Process(_worker_pid(stack, "airflow-worker-talks-talker"))
    worker.kill()
    assert stack.wait_for("talks", run_id, "success", "failed") == "failed"
    assert "worker was lost" in stack.log("talks", run_id, "talker")
    assert go_on.with_suffix(".ledger").read_text() == "executed\n"


def _worker_pid(stack: Stack, service: str) -> int:
    (pid,) = [
        worker["pid"]
        for found in stack.status()["services"]
        if found["service"] == service
        for worker in found["workers"]
    ]
    return int(pid)
