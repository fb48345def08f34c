"""Each DAG twice, the same but for its executor: what a DAG does through Knative beside what stock Airflow does."""

from __future__ import annotations

import importlib.util
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG
from airflow.sdk.definitions._internal.contextmanager import DagContext
from airflow.sdk.definitions.timetables.simple import NullTimetable

if TYPE_CHECKING:
    from collections.abc import Callable

EXECUTORS: dict[str, dict[str, Any]] = {
    # The first of `[core] executor` needs no name.
    "knative": {},
    "local": {"executor": "LocalExecutor"},
}
# One worker a DAG is enough, and starts once. Sets have the same order in it as in Airflow's own processes.
SERVICE = {
    "knative": {"slots": 8, "max_scale": 1, "window": 600, "timeout": 3600, "env": {"PYTHONHASHSEED": "0"}},
}


def twins(*, default_args: dict[str, Any] | None = None, **options: Any) -> Callable[[Callable[[str], Any]], None]:
    """Define the DAG that a function fills once for each executor, whose name the function is given.

    Options that are functions of that name, and no callbacks, are called with it.
    """

    def define(fill: Callable[[str], Any]) -> None:
        for name, executor in EXECUTORS.items():
            mine = {
                key: option(name) if callable(option) and not key.endswith("callback") else option
                for key, option in options.items()
            }
            arguments = {"executor_config": SERVICE, **executor, **(default_args or {})}
            with DAG(
                f"{fill.__name__}_on_{name}",
                doc_md=fill.__doc__,
                default_args=arguments,
                schedule=mine.pop("schedule", None),
                **{"start_date": datetime(2026, 1, 1), **mine},  # noqa: DTZ001
            ):
                fill(name)

    return define


def note(context: Any, text: str) -> None:
    """Add a line to the file that the run's conf names, if it names one."""
    run = context["dag_run"]
    if folder := (run.conf or {}).get("notes"):
        with Path(folder, run.dag_id).open("a") as file:
            file.write(f"{text}\n")


def noting(what: str) -> Callable[[Any], None]:
    """Return a callback that notes for whom it was called."""

    def callback(context: Any) -> None:
        whom = ""
        if not what.startswith("dag"):  # a run's own callback gets the task instance that happened to end last
            ti = context["ti"]
            whom = f" of {ti.task_id} {ti.map_index}, try {ti.try_number}"
        error = type(context["exception"]).__name__ if context.get("exception") else ""
        note(context, f"{what}{whom}: {error}{context.get('reason', '')}")

    return callback


def example(module: str) -> dict[str, Any]:
    """Import one of Airflow's own example modules once for each executor; returns its DAGs by their new ids."""
    found: dict[str, Any] = {}
    for name, executor in EXECUTORS.items():
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        dags = [*vars(loaded).values(), *(dag for dag, _ in DagContext.autoregistered_dags)]
        # Most are found both ways; those that are named after an executor are of the import before.
        for dag in {id(one): one for one in dags if isinstance(one, DAG) and "_on_" not in one.dag_id}.values():
            dag.dag_id = f"{dag.dag_id}_on_{name}"
            dag.timetable = NullTimetable()
            for task in dag.tasks:
                arguments = {"executor": executor.get("executor"), "executor_config": SERVICE}
                if task.is_mapped:
                    task.partial_kwargs.update(arguments)
                else:
                    vars(task).update(arguments)
            found[dag.dag_id] = dag
    return found
