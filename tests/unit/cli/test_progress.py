from __future__ import annotations

from typing import Any

from airflow_knative.cli.progress import _topological, rows


def instance(task_id: str, state: str | None, **more: Any) -> dict[str, Any]:
    return {"task_id": task_id, "state": state, "start_date": None, "end_date": None, "try_number": 1, **more}


def test_tasks_stand_in_the_order_of_the_dag() -> None:
    tasks = [
        {"task_id": "z", "downstream_task_ids": ["m"]},
        {"task_id": "a", "downstream_task_ids": []},
        {"task_id": "m", "downstream_task_ids": ["a"]},
    ]
    assert _topological(tasks) == ["z", "m", "a"]
    found = rows(
        [instance("new", None), instance("a", None), instance("m", None), instance("z", None)], ["z", "m", "a"]
    )
    assert [row.task_id for row in found] == ["z", "m", "a", "new"]


def test_a_cycle_does_not_stop_anything() -> None:
    tasks = [{"task_id": "a", "downstream_task_ids": ["b"]}, {"task_id": "b", "downstream_task_ids": ["a"]}]
    assert sorted(_topological(tasks)) == ["a", "b"]


def test_mapped_instances_are_counted() -> None:
    states = ["success"] * 3 + ["running"] * 2
    (row,) = rows([instance("step", state) for state in states], [])
    assert row.describe(0) == "3 success, 2 running"
    assert row.state == "running"
    assert not row.done


def test_a_failure_outweighs_everything() -> None:
    (row,) = rows([instance("step", "success"), instance("step", "failed"), instance("step", "running")], [])
    assert row.state == "failed"


def test_duration_and_tries() -> None:
    (row,) = rows(
        [instance("t", "success", start_date="2026-01-01T00:00:00Z", end_date="2026-01-01T00:00:02.25Z", try_number=2)],
        [],
    )
    assert row.describe(0) == "success, try 2, 2.25 s"
    assert row.done


def test_skipped_and_waiting() -> None:
    skipped, waiting = rows([instance("s", "skipped"), instance("w", None)], [])
    assert (skipped.state, skipped.done) == ("skipped", True)
    assert (waiting.state, waiting.done) == ("waiting", False)
