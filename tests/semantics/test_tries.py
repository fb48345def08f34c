"""Tries, retries and callbacks: the same rows, callbacks and logs as with LocalExecutor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .deployment import EXECUTORS, tasks, tries, xcoms

if TYPE_CHECKING:
    from datetime import datetime

    from .deployment import Deployment

pytestmark = pytest.mark.timeout(1200)


def test_retries_failures_skips_timeouts_and_exits(deployment: Deployment) -> None:
    found = deployment.same("retries")
    assert tasks(found) == {
        "backs_off": "success",
        "gives_up": "failed",
        "fails_for_good": "failed",
        "skips": "skipped",
        "takes_too_long": "success",
        "exits": "failed",
        "after": "success",
    }
    assert tries(found) | {"after": 1} == {
        "backs_off": 4,
        "gives_up": 2,
        "fails_for_good": 1,
        "skips": 1,
        "takes_too_long": 2,
        "exits": 2,
        "after": 1,
    }
    # A try clears what the tries before it pushed.
    assert [xcom["key"] for xcom in found["xcoms"] if xcom["task_id"] == "backs_off"] == ["return_value", "try_4"]


def test_retry_policies_and_what_a_task_keeps_for_its_next_try(deployment: Deployment) -> None:
    found = deployment.same("policies", "failed")
    assert tasks(found) == {"remembers": "success", "fails_by_policy": "failed", "retries_by_policy": "success"}
    assert tries(found) == {"remembers": 2, "fails_by_policy": 1, "retries_by_policy": 2}
    assert xcoms(found)["remembers"] == 2
    assert "it may come back" in str(found)


def test_exponential_backoff(deployment: Deployment) -> None:
    deployment.wait("retries")
    for executor in EXECUTORS:
        first, second, third, fourth = _tries(deployment, f"retries_on_{executor}", "backs_off")
        # At least `retry_delay` doubled each time, of which jitter takes less than half.
        assert (second[0] - first[1]).total_seconds() >= 0.2
        assert (third[0] - second[1]).total_seconds() >= 0.2
        assert (fourth[0] - third[1]).total_seconds() >= 0.4


def _tries(deployment: Deployment, dag_id: str, task_id: str) -> list[tuple[datetime, datetime]]:
    query = (
        "SELECT start_date, end_date, try_number FROM task_instance WHERE dag_id = %s AND task_id = %s UNION "
        "SELECT start_date, end_date, try_number FROM task_instance_history WHERE dag_id = %s AND task_id = %s "
        "ORDER BY try_number"
    )
    return [(row[0], row[1]) for row in deployment.query(query, *(dag_id, task_id) * 2)]


def test_callbacks_of_tasks_and_dags(deployment: Deployment) -> None:
    deployment.wait("callbacks")
    deployment.wait_for_note("callbacks", "dag failure")  # the DAG processor runs it
    found = deployment.same("callbacks", "failed")
    noted = deployment.noted("callbacks")
    assert tasks(found)["has_a_broken_callback"] == "success"
    for line in (
        "dag failure: ",
        "execute of mapped 1, try 1: ",
        "failure of fails -1, try 1: ValueError",
        "failure of mapped 0, try 1: ZeroDivisionError",
        "retry of works_at_the_second_try -1, try 1: ValueError",
        "skipped of skips -1, try 1: ",
        "success again of succeeds -1, try 1: ",
        "success of works_at_the_second_try -1, try 2: ",
    ):
        assert [one for one in noted if one.startswith(line)], line


def test_success_callback_of_a_dag(deployment: Deployment) -> None:
    deployment.wait("good")
    deployment.wait_for_note("good", "dag success")
    deployment.same("good")
    callback, task = deployment.noted("good")
    assert callback.startswith("dag success: ")
    assert task == "done"


def test_setup_and_teardown(deployment: Deployment) -> None:
    found = deployment.same("setups", "failed")
    assert {name: state for name, state in tasks(found).items() if name.endswith("remove")} == {
        "fails_nothing.remove": "success",
        "fails_setup.remove": "upstream_failed",
        "fails_work.remove": "success",
        "fails_teardown.remove": "failed",
    }
    assert tasks(found)["fails_teardown.next"] == "success"
    assert tasks(found)["fails_work.next"] == "upstream_failed"


def test_a_failed_teardown_fails_the_run_if_told_to(deployment: Deployment) -> None:
    found = deployment.same("teardown_decides", "failed")
    assert tasks(found) == {"make": "success", "work": "success", "remove": "failed"}
    assert xcoms(found) == {}
