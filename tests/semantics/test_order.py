"""When tasks run, and what users do to runs: the same as with LocalExecutor."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from .deployment import EXECUTORS, RUN_ID, tasks, tries, xcoms

if TYPE_CHECKING:
    from .deployment import Deployment

pytestmark = pytest.mark.timeout(1200)


def test_pools_and_limits(deployment: Deployment) -> None:
    deployment.same("pools")
    for executor in EXECUTORS:
        ran = _intervals(deployment, f"pools_on_{executor}")
        by_priority = [name for name, *_ in ran if name.startswith("priority")]
        assert by_priority == ["priority_5", "priority_3", "priority_1"]
        for kind in ("priority", "two_slots", "one_at_a_time"):
            several = [(start, end) for name, start, end in ran if name.startswith(kind)]
            assert all(before[1] <= after[0] for before, after in itertools.pairwise(several)), kind


def _intervals(deployment: Deployment, dag_id: str) -> list[Any]:
    query = "SELECT task_id, start_date, end_date FROM task_instance WHERE dag_id = %s ORDER BY start_date"
    return deployment.query(query, dag_id)


def test_priorities(deployment: Deployment) -> None:
    found = deployment.same("priorities")
    weights = {task["task_id"]: task["priority_weight"] for task in found["tasks"]}
    assert [weights[f"downstream_{end}"] for end in ("2", "3", "end")] == [12, 10, 7]
    assert [weights[f"upstream_{end}"] for end in ("2", "3", "end")] == [2, 5, 12]
    assert [weights[f"absolute_{end}"] for end in ("2", "3", "end")] == [2, 3, 7]


def test_backfill_latest_only_and_xcoms_of_earlier_runs(deployment: Deployment) -> None:
    for executor in EXECUTORS:
        body = {
            "dag_id": f"daily_on_{executor}",
            "from_date": "2026-01-02T00:00:00Z",
            "to_date": "2026-01-04T00:00:00Z",
        }
        deployment.post("backfills", body | {"max_active_runs": 1, "reprocess_behavior": "completed"})
    for day in (2, 3, 4):
        deployment.wait("daily", f"backfill__2026-01-0{day}T00:00:00+00:00")
    found = deployment.compare("daily")
    assert [run["run_type"] for run in found["runs"]] == ["backfill"] * 3
    assert [xcom["value"] for xcom in found["xcoms"] if xcom["task_id"] == "counts"] == [1, 2, 3]
    so_far = [xcom["value"] for xcom in found["xcoms"] if xcom["task_id"] == "all_so_far"]
    assert [sorted(value) if isinstance(value, list) else value for value in so_far] == [1, [1, 2], [1, 2, 3]]
    assert tasks(found)["only_then"] == "skipped"


def test_depends_on_past_and_marking_states(deployment: Deployment) -> None:
    for day in (1, 2, 3):
        deployment.trigger("depends_on_past", run_id=f"day_{day}", logical_date=f"2026-01-0{day}T00:00:00+00:00")
    assert deployment.wait("depends_on_past", "day_1") == "success"
    assert deployment.wait("depends_on_past", "day_2") == "failed"
    deployment.wait_for_run("depends_on_past", "day_3", "running")
    assert _states(deployment, "day_3") == {None}
    for executor in EXECUTORS:
        runs = f"dags/depends_on_past_on_{executor}/dagRuns"
        deployment.patch(f"{runs}/day_2/taskInstances/fails_on_the_second", {"new_state": "success"})
        deployment.patch(f"{runs}/day_2", {"state": "success"})
    assert deployment.wait("depends_on_past", "day_3") == "success"
    deployment.compare("depends_on_past")


def _states(deployment: Deployment, run_id: str) -> set[str | None]:
    found = [deployment.rows("depends_on_past", executor) for executor in EXECUTORS]
    return {task["state"] for one in found for task in one["tasks"] if task["run_id"] == run_id}


def test_on_kill_when_a_running_task_is_marked_failed(deployment: Deployment) -> None:
    deployment.trigger("killed")
    deployment.wait_for_note("killed", "started")
    for executor in EXECUTORS:
        deployment.patch(f"dags/killed_on_{executor}/dagRuns/{RUN_ID}/taskInstances/waits", {"new_state": "failed"})
    deployment.wait_for_note("killed", "on_kill")
    deployment.wait_for_note("killed", "dag failure")
    # Who ends a task says so in its own words.
    found = deployment.same("killed", "failed", logged=False)
    assert tasks(found) == {"waits": "failed", "after": "upstream_failed"}
    assert tries(found)["waits"] == 1


def test_dagrun_timeout(deployment: Deployment) -> None:
    deployment.wait_for_note("out_of_time", "on_kill")
    deployment.wait_for_note("out_of_time", "dag failure")
    found = deployment.same("out_of_time", "failed", logged=False)
    assert tasks(found)["waits"] == "skipped"


def test_clearing_and_running_again(deployment: Deployment) -> None:
    found = deployment.same("cleared")
    assert xcoms(found) == {"first": 1, "second": 2, "third": 20}
    for executor in EXECUTORS:
        body = {"dry_run": False, "dag_run_id": RUN_ID, "task_ids": ["second"], "only_failed": False}
        deployment.post(f"dags/cleared_on_{executor}/clearTaskInstances", body | {"include_downstream": True})
    found = deployment.same("cleared")
    assert xcoms(found) == {"first": 1, "second": 3, "third": 30}
    assert tries(found) == {"first": 1, "second": 2, "third": 2}
    assert [row["task_id"] for row in found["earlier tries"]] == ["second", "third"]
    assert deployment.noted("cleared") == ["second, try 1", "second, try 2"]


def test_a_dag_file_that_changes(deployment: Deployment) -> None:
    deployment.change("changing", CHANGING.format(tasks="kept() >> removed()"))
    deployment.wait_for_version("changing", 1)
    deployment.trigger("changing")
    assert tasks(deployment.same("changing")) == {"kept": "success", "removed": "success"}
    deployment.change("changing", CHANGING.format(tasks="kept() >> added()"))
    deployment.wait_for_version("changing", 2)
    for executor in EXECUTORS:
        body = {"dry_run": False, "dag_run_id": RUN_ID, "only_failed": False}
        deployment.post(f"dags/changing_on_{executor}/clearTaskInstances", body | {"run_on_latest_version": True})
    deployment.trigger("changing", run_id="afterwards", logical_date="2026-01-02T00:00:00+00:00")
    deployment.wait("changing", "afterwards")
    found = deployment.same("changing")
    states = {(task["run_id"], task["task_id"]): (task["state"], task["dag_version"]) for task in found["tasks"]}
    assert states["the_run", "kept"] == ("success", 2)
    assert states["afterwards", "added"] == ("success", 2)
    assert ("afterwards", "removed") not in states


CHANGING = """
# Airflow looks for DAGs in a file that has this word.
from airflow.sdk import task
from twins import twins


@twins()
def changing(_):
    @task
    def kept():
        return "kept"

    @task
    def removed():
        return "removed"

    @task
    def added():
        return "added"

    {tasks}
"""


def test_several_executors_in_one_dag(deployment: Deployment) -> None:
    deployment.post("dags/both/dagRuns", {"dag_run_id": RUN_ID, "logical_date": None})
    assert deployment.stack.wait_for("both", RUN_ID, "success", "failed", within=300.0) == "success"
    run = f"dags/both/dagRuns/{RUN_ID}/taskInstances"
    assert {task["task_id"]: task["executor"] for task in deployment.stack.api(run)["task_instances"]} == {
        "by_default": None,
        "here": "LocalExecutor",
        "there": "airflow_knative.executor.KnativeExecutor",
        "by_short_name": "KnativeExecutor",
    }
    names = ["by_default", "here", "there", "by_short_name"]
    assert deployment.stack.api(f"{run}/by_short_name/xcomEntries/return_value")["value"] == names
    through_us = [name for name in names if "Task instance timings" in deployment.stack.log("both", RUN_ID, name)]
    assert through_us == ["by_default", "there", "by_short_name"]
