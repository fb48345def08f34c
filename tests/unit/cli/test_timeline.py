from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from airflow_knative.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import FakeServer

DAG = "/api/v2/dags/d"
RUN = {
    "dag_run_id": "manual__2026-01-01T00:00:00+00:00",
    "state": "success",
    "queued_at": "2026-01-01T00:00:00Z",
    "start_date": "2026-01-01T00:00:00.1Z",
    "end_date": "2026-01-01T00:00:03Z",
    "run_after": "2026-01-01T00:00:00Z",
}
RUN_PATH = f"{DAG}/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
ZERO = 1767225600.0
LINE = {
    "event": "Task instance timings",
    "logger": "airflow_knative.timeline",
    "stages": {"queued": ZERO + 0.3, "sent": ZERO + 0.4, "received": ZERO + 0.5, "applied": ZERO + 1.0},
    "cold": True,
    "worker": "pod-1",
    "service": "airflow-worker-d-t",
}


def instance(task_id: str, **more: Any) -> dict[str, Any]:
    return {
        "dag_id": "d",
        "dag_run_id": RUN["dag_run_id"],
        "task_id": task_id,
        "map_index": -1,
        "try_number": 1,
        "state": "success",
        "scheduled_when": "2026-01-01T00:00:00.2Z",
        "queued_when": "2026-01-01T00:00:00.25Z",
        "start_date": "2026-01-01T00:00:00.35Z",
        "end_date": "2026-01-01T00:00:00.9Z",
        "rendered_map_index": None,
        **more,
    }


@pytest.fixture
def airflow(server: FakeServer, login: None) -> FakeServer:
    server.answers |= {
        ("POST", "/auth/token"): (201, {"access_token": "token"}),
        ("GET", f"{DAG}/dagRuns"): (200, {"dag_runs": [RUN], "total_entries": 1}),
        ("GET", RUN_PATH): (200, RUN),
    }
    return server


def instances(airflow: FakeServer, *found: dict[str, Any]) -> None:
    def page(_: dict[str, str], path: str) -> tuple[int, Any]:
        query = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        begin = int(query["offset"])
        return 200, {"task_instances": found[begin : begin + int(query["limit"])], "total_entries": len(found)}

    airflow.answers["GET", f"{RUN_PATH}/taskInstances"] = page


def log(airflow: FakeServer, task_id: str, try_number: int, *lines: Any) -> None:
    path = f"{RUN_PATH}/taskInstances/{task_id}/logs/{try_number}"
    airflow.answers["GET", path] = (200, {"content": list(lines), "continuation_token": None})


def timeline(airflow: FakeServer, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["timeline", "d", "--airflow-url", airflow.url, *arguments])


def test_the_latest_run_as_json(airflow: FakeServer) -> None:
    instances(airflow, instance("t"))
    log(airflow, "t", 1, {"event": "Hello", "logger": "task"}, LINE)
    document = json.loads(timeline(airflow, "--json").stdout)
    assert document["total_ms"] == 3000
    (task,) = document["tasks"]
    assert (task["cold"], task["worker"], task["service"]) == (True, "pod-1", "airflow-worker-d-t")
    assert task["moments_ms"]["sent"] == 400
    assert [stage["stage"] for stage in task["stages"]] == ["waiting", "dispatch", "cold_start", "prepare"]
    asked = [headers["authorization"] for method, _, headers, _ in airflow.calls if method == "GET"]
    assert set(asked) == {"Bearer token"}


def test_a_named_run_drawn_and_as_svg(airflow: FakeServer, tmp_path: Path) -> None:
    instances(airflow, instance("t"))
    log(airflow, "t", 1, LINE)
    result = timeline(airflow, RUN["dag_run_id"], "--svg", str(tmp_path / "t.svg"))
    assert result.exit_code == 0, result.output
    assert "cold" in result.stdout
    assert (tmp_path / "t.svg").read_text().startswith("<svg ")


def test_every_try_is_shown(airflow: FakeServer) -> None:
    instances(airflow, instance("t", try_number=2))
    tries = [instance("t", state="failed"), instance("t", try_number=2)]
    airflow.answers["GET", f"{RUN_PATH}/taskInstances/t/-1/tries"] = (200, {"task_instances": tries})
    log(airflow, "t", 1, LINE | {"cold": True})
    log(airflow, "t", 2, LINE | {"cold": False})
    tasks = json.loads(timeline(airflow, "--json").stdout)["tasks"]
    assert [(task["try_number"], task["state"], task["cold"]) for task in tasks] == [
        (1, "failed", True),
        (2, "success", False),
    ]


def test_more_tasks_than_a_page_holds(airflow: FakeServer) -> None:
    instances(airflow, *(instance("t", map_index=index, state="skipped") for index in range(250)))
    tasks = json.loads(timeline(airflow, "--json").stdout)["tasks"]
    assert [task["map_index"] for task in tasks] == list(range(250))


def test_missing_data_leaves_gaps_not_errors(airflow: FakeServer) -> None:
    nothing = dict.fromkeys(("scheduled_when", "queued_when", "start_date", "end_date"))
    instances(
        airflow,
        instance("no_log"),
        instance("plain_log"),
        instance("skipped", state="skipped", try_number=0, **nothing),
        instance("waiting", state=None, try_number=0, **nothing),
    )
    log(airflow, "plain_log", 1, "a line that is no JSON")
    result = timeline(airflow)
    assert result.exit_code == 0, result.output
    for name in ("no_log", "plain_log", "skipped", "waiting"):
        assert name in result.stdout


def test_the_last_line_of_timings_counts(airflow: FakeServer) -> None:
    instances(airflow, instance("deferred"))
    log(airflow, "deferred", 1, LINE | {"worker": "first"}, LINE | {"worker": "second"})
    assert json.loads(timeline(airflow, "--json").stdout)["tasks"][0]["worker"] == "second"


def test_a_dag_that_has_never_run(airflow: FakeServer) -> None:
    airflow.answers["GET", f"{DAG}/dagRuns"] = (200, {"dag_runs": [], "total_entries": 0})
    assert "airflow-knative run d" in str(timeline(airflow).exception)


def test_a_wrong_password(airflow: FakeServer) -> None:
    airflow.answers["POST", "/auth/token"] = (401, {"detail": "Invalid credentials"})
    message = str(timeline(airflow).exception)
    assert "'anna'" in message
    assert "s3cret" not in message


def test_an_unknown_run(airflow: FakeServer) -> None:
    message = str(timeline(airflow, "nope").exception)
    assert "404" in message


def test_a_file_that_cannot_be_written(airflow: FakeServer, tmp_path: Path) -> None:
    instances(airflow)
    message = str(timeline(airflow, "--svg", str(tmp_path / "no" / "t.svg")).exception)
    assert "cannot be written" in message


@pytest.mark.parametrize("ready", [ZERO + 0.3, None])
def test_a_start_ahead_is_told(airflow: FakeServer, ready: float | None) -> None:
    instances(airflow, instance("t"))
    log(airflow, "t", 1, LINE | {"prewarm": {"nudged": ZERO + 0.1, "ready": ready}})
    (task,) = json.loads(timeline(airflow, "--json").stdout)["tasks"]
    assert task["prewarm_ms"] == [100, None if ready is None else 300]
