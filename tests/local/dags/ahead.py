"""A DAG whose first task holds the rest up until a file is there: first, then second and third, and a branch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task


@dag(dag_id="ahead", schedule=None, params={"data": None})
def ahead() -> None:
    @task
    def first(params: dict[str, Any]) -> None:
        go_on = Path(params["data"])
        go_on.with_suffix(".began").touch()
        while not go_on.exists():
            time.sleep(0.05)

    @task.branch
    def choose() -> str:
        return "left"

    @task
    def step() -> None:
        """Do nothing."""

    def named(task_id: str) -> Any:
        return step.override(task_id=task_id)()

    begin, branch, left = first(), choose(), named("left")
    begin >> named("second") >> named("third") >> named("last")
    begin >> branch >> [left, named("right")]
    left >> named("after_left")


ahead()
