"""Why a run has failed: its failed tasks and the last error line of each."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from airflow_knative.gateway.airflow import Airflow
    from airflow_knative.gateway.auth import Caller
    from airflow_knative.gateway.runs import Run

__all__ = ["failed_tasks", "summary"]

_MOST_TASKS: Final = 100
_MOST_LOGS: Final = 10
_LOGS_AT_ONCE: Final = 4
_LOG_TIMEOUT: Final = 5.0
_LONGEST_LINE: Final = 1000


async def failed_tasks(airflow: Airflow, caller: Caller, run: Run) -> list[dict[str, Any]] | None:
    """Return the failed tasks of a run, those with an error first; None if Airflow does not tell the caller.

    This explains a failure, so it never fails itself: a log that cannot be read leaves `error` null.
    """
    query = f"state=failed&state=upstream_failed&limit={_MOST_TASKS}"
    try:
        instances, _ = await caller.call(lambda token: airflow.task_instances(token, run.dag_id, run.run_id, query))
    except AirflowKnativeError:
        return None
    tasks = [
        {
            "task_id": str(instance.get("task_id")),
            "map_index": instance.get("map_index", -1),
            "state": instance.get("state"),
            "tries": instance.get("try_number", 0),
            "error": None,
        }
        for instance in instances
    ]
    tasks.sort(key=lambda task: (task["state"] != "failed", task["task_id"], task["map_index"]))
    slots = asyncio.Semaphore(_LOGS_AT_ONCE)

    async def explain(task: dict[str, Any]) -> None:
        async with slots:
            task["error"] = await _last_error(airflow, caller, run, task)

    async with asyncio.TaskGroup() as group:
        for task in [task for task in tasks if task["state"] == "failed" and task["tries"]][:_MOST_LOGS]:
            group.create_task(explain(task))
    return tasks


def summary(run: Run, tasks: list[dict[str, Any]] | None) -> str:
    """Return the sentences that say why a run has failed."""
    failed = [task for task in tasks or () if task["state"] == "failed"]
    if not failed:
        return (
            f"Run {run.run_id!r} of workflow {run.dag_id!r} failed, but none of its tasks did: it was marked "
            "as failed, ran out of time, or came to a standstill. Airflow's page of the run tells which."
        )
    task = failed[0]
    name = repr(task["task_id"]) + (f" (map index {task['map_index']})" if task["map_index"] >= 0 else "")
    tries = "1 try" if task["tries"] == 1 else f"{task['tries']} tries"
    others = f" {len(failed) - 1} more failed, too." if len(failed) > 1 else ""
    error = f": {task['error']}" if task["error"] else "; its log in Airflow may tell why."
    return f"Run {run.run_id!r} of workflow {run.dag_id!r} failed. Task {name} failed after {tries}{error}{others}"


async def _last_error(airflow: Airflow, caller: Caller, run: Run, task: dict[str, Any]) -> str | None:
    async def read(token: str) -> str | None:
        records = airflow.log(
            token, run.dag_id, run.run_id, task["task_id"], try_number=task["tries"], map_index=task["map_index"]
        )
        last = None
        async with aclosing(records):
            async for record in records:
                if str(record.get("level", "")).lower() in {"error", "critical"}:
                    last = _error_line(record) or last
        return last

    try:
        async with asyncio.timeout(_LOG_TIMEOUT):
            return await caller.call(read)
    except (AirflowKnativeError, TimeoutError):
        return None


def _error_line(record: dict[str, Any]) -> str | None:
    """Return the line that says what went wrong: the exception if the record carries one, else its last line."""
    stacks = record.get("error_detail")
    if isinstance(stacks, list) and stacks and isinstance(stacks[0], dict) and stacks[0].get("exc_type"):
        line = f"{stacks[0]['exc_type']}: {stacks[0].get('exc_value', '')}"
    else:
        lines = [line for line in str(record.get("event", "")).splitlines() if line.strip()]
        line = lines[-1] if lines else ""
    return line.strip()[:_LONGEST_LINE] or None
