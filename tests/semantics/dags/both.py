"""A DAG whose tasks run on several executors."""

from __future__ import annotations

from airflow.sdk import DAG, get_current_context, task


@task
def adds_its_name(names: list[str]) -> list[str]:
    return [*names, get_current_context()["ti"].task_id]


with DAG("both", schedule=None):
    names = adds_its_name.override(task_id="by_default")([])
    for task_id, executor in {
        "here": "LocalExecutor",
        "there": "airflow_knative.executor.KnativeExecutor",
        "by_short_name": "KnativeExecutor",
    }.items():
        names = adds_its_name.override(task_id=task_id, executor=executor)(names)
