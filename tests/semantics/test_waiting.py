"""Sensors, deferral, other DAGs and people: the same as with LocalExecutor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .deployment import EXECUTORS, RUN_ID, tasks, tries, xcoms

if TYPE_CHECKING:
    from .deployment import Deployment

pytestmark = pytest.mark.timeout(1200)


def test_sensors_that_poke_and_sensors_that_are_rescheduled(deployment: Deployment) -> None:
    deployment.repeat_what_stock_loses("sensors")
    found = deployment.same("sensors", "failed")
    assert tasks(found) == {
        "pokes": "success",
        "reads": "success",
        "skips_after_its_timeout": "skipped",
        "fails_after_its_timeout": "failed",
        "fails_once": "success",
        "decides_to_skip": "skipped",
        "rescheduled": "success",
        "rescheduled_until_its_timeout": "failed",
    }
    assert xcoms(found)["reads"] == 3
    assert len([row for row in found["reschedules"] if row["task_id"] == "rescheduled"]) == 1


def test_deferral(deployment: Deployment) -> None:
    deployment.repeat_what_stock_loses("deferrals")
    found = deployment.same("deferrals", "failed")
    assert tasks(found) == {
        "once": "success",
        "three_times": "success",
        "tries_again": "success",
        "waits_too_long": "failed",
        "mapped[0]": "success",
        "mapped[1]": "success",
        "at_a_time": "success",
        "after_a_while": "success",
    }
    assert xcoms(found, "time_2")["three_times"] == 2
    assert tries(found)["tries_again"] == 2
    assert {task["next_method"] for task in found["tasks"] if task["state"] == "success"} == {None}


def test_runs_that_trigger_runs(deployment: Deployment) -> None:
    deployment.repeat_what_stock_loses("triggers", "target")
    found = deployment.same("triggers", "failed")
    assert tasks(found)["fails_with_its_target"] == "failed"
    deployment.wait("target", "unattended")
    target = deployment.compare("target")
    assert {run["run_id"]: run["state"] for run in target["runs"]} == {
        "of_poking": "success",
        "of_deferring": "success",
        "of_failing": "failed",
        "unattended": "success",
    }


def test_people_in_the_loop(deployment: Deployment) -> None:
    deployment.wait_for_task("people", "approval", "awaiting_input", "deferred")
    deployment.wait_for_task("people", "choice", "awaiting_input", "deferred")
    answers = {
        "approval": {"chosen_options": ["Approve"], "params_input": {}},
        "choice": {"chosen_options": ["a", "c"], "params_input": {"why": "because"}},
    }
    for executor in EXECUTORS:
        for task_id, answer in answers.items():
            where = f"dags/people_on_{executor}/dagRuns/{RUN_ID}/taskInstances/{task_id}/-1/hitlDetails"
            deployment.patch(where, answer)
    found = deployment.same("people")
    assert xcoms(found)["chosen"] == [["a", "c"], {"why": "because"}]
    assert [question["chosen_options"] for question in found["questions"]] == [["Approve"], ["a", "c"], ["no"]]
