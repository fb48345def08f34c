"""What Airflow promises about tasks, through the gateway, the executor and workers started from zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .stack import Stack, written
from .workers import eventually, is_running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)


def _output(stack: Stack, dag_id: str, data: object = None) -> object:
    response = stack.run(dag_id, data)
    assert response.status_code == 200, response.text
    return response.json()["output"]


def test_retries(stack: Stack) -> None:
    run_id = stack.start("retried")
    assert stack.wait_for("retried", run_id, "success", "failed") == "success"
    ti = stack.task("retried", run_id, "fails_twice")
    assert (ti["state"], ti["try_number"]) == ("success", 3)
    # A try clears what the tries before it pushed.
    xcoms = stack.api(f"dags/retried/dagRuns/{run_id}/taskInstances/fails_twice/xcomEntries")["xcom_entries"]
    assert {xcom["key"] for xcom in xcoms} == {"try_3", "return_value"}


def test_dynamic_task_mapping(stack: Stack) -> None:
    assert _output(stack, "expanded", 6) == {"sum": 55, "last": 25, "first two": [0, 1], "count": 6}


def test_mapping_over_nothing_skips(stack: Stack) -> None:
    run_id = stack.start("expanded", 0)
    stack.wait_for("expanded", run_id, "success")
    assert stack.task("expanded", run_id, "add")["state"] == "skipped"


def test_deferral(stack: Stack) -> None:
    assert _output(stack, "deferred") == "before and after"


def test_execution_timeout(stack: Stack, tmp_path: Path) -> None:
    response = stack.run("timed_out", str(tmp_path))
    assert response.status_code == 422
    assert "AirflowTaskTimeout" in response.text
    assert (tmp_path / "failed").read_text() == "too_long 1"


def test_callbacks(stack: Stack, tmp_path: Path) -> None:
    assert stack.run("called_back", str(tmp_path)).status_code == 422
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "failed": "fails 1",
        "succeeded": "succeeds 1",
        "retried": "retries 1",
    }


def test_xcoms(stack: Stack) -> None:
    assert _output(stack, "xcoms") == {
        "pushed": {"nested": [1, None, "ü"]},
        "number": 7,
        "when": "2026-01-01T00:00:00",
        "absent": None,
    }


def test_variables_and_connections(stack: Stack) -> None:
    for key, value in {"greeting": "hello", "settings": '{"a": [1]}'}.items():
        stack.airflow.post("/api/v2/variables", json={"key": key, "value": value}).raise_for_status()
    stack.airflow.post(
        "/api/v2/connections",
        json={
            "connection_id": "warehouse",
            "conn_type": "postgres",
            "host": "db.example",
            "login": "reader",
            "password": "sesame",
            "schema": "facts",
        },
    ).raise_for_status()
    expected = {
        "variable": "hello",
        "json": {"a": [1]},
        "absent": "the default",
        "connection": "postgres://reader@db.example/facts",
    }
    assert _output(stack, "configured") == expected
    assert stack.api("variables/written")["value"] == "by a task"
    # What the first run asked for travels with the second, and changes are seen.
    stack.airflow.patch("/api/v2/variables/greeting", json={"key": "greeting", "value": "again"}).raise_for_status()
    assert _output(stack, "configured") == expected | {"variable": "again"}


def test_branching(stack: Stack) -> None:
    assert _output(stack, "branched", "left") == ["left"]
    assert _output(stack, "branched", "right") == ["right"]


def test_values_larger_than_what_travels_in_a_request(stack: Stack) -> None:
    assert _output(stack, "large", 6_000_000) == 6_000_000


def test_the_log_can_be_read_while_the_task_runs(stack: Stack, tmp_path: Path) -> None:
    run_id = stack.start("talks", str(tmp_path / "go-on"))
    eventually(lambda: "said while it runs" in _log(stack, run_id), within=90.0)
    assert stack.task("talks", run_id, "talker")["state"] == "running"
    (tmp_path / "go-on").touch()
    assert stack.wait_for("talks", run_id, "success", "failed") == "success"
    assert "Task instance timings" in _log(stack, run_id)


def _log(stack: Stack, run_id: str) -> str:
    started = stack.task("talks", run_id, "talker")["try_number"] > 0
    return stack.log("talks", run_id, "talker") if started else ""


def test_a_task_that_is_marked_failed_is_stopped_with_all_it_started(stack: Stack, tmp_path: Path) -> None:
    where = tmp_path / "pid"
    run_id = stack.start("shell", str(where))
    pid = int(eventually(written(where), within=90.0))
    assert is_running(pid)
    stack.airflow.patch(
        f"/api/v2/dags/shell/dagRuns/{run_id}/taskInstances/sleeps", json={"new_state": "failed"}
    ).raise_for_status()
    eventually(lambda: not is_running(pid), within=60.0)
    assert stack.wait_for("shell", run_id, "failed", "success") == "failed"
    assert stack.task("shell", run_id, "sleeps")["state"] == "failed"


def test_a_cleared_task_runs_again(stack: Stack, tmp_path: Path) -> None:
    where = tmp_path / "pid"
    run_id = stack.start("shell", str(where))
    first = int(eventually(written(where), within=90.0))
    stack.airflow.post(
        "/api/v2/dags/shell/clearTaskInstances",
        json={"dry_run": False, "dag_run_id": run_id, "task_ids": ["sleeps"], "only_failed": False},
    ).raise_for_status()
    second = int(eventually(lambda: (text := written(where)()) and int(text) != first and text, within=90.0))
    eventually(lambda: not is_running(first), within=60.0)
    assert is_running(second)
    stack.airflow.patch(f"/api/v2/dags/shell/dagRuns/{run_id}", json={"state": "failed"}).raise_for_status()
    eventually(lambda: not is_running(second), within=60.0)


def test_a_cleared_task_ends_before_its_next_try_begins(stack: Stack, tmp_path: Path) -> None:
    where = tmp_path / "said"
    run_id = stack.start("slow_to_end", str(where))
    eventually(written(where), within=90.0)
    stack.airflow.post(
        "/api/v2/dags/slow_to_end/clearTaskInstances",
        json={"dry_run": False, "dag_run_id": run_id, "task_ids": ["sleeps"], "only_failed": False},
    ).raise_for_status()
    eventually(lambda: "2 begins" in where.read_text(), within=90.0)
    assert where.read_text().splitlines() == ["1 begins", "ends", "2 begins"]
    stack.airflow.patch(f"/api/v2/dags/slow_to_end/dagRuns/{run_id}", json={"state": "failed"}).raise_for_status()
