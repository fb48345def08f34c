"""Reading a run's timeline from Airflow's API and the tasks' logs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.cli.airflow import AirflowApiError
from airflow_knative.cli.timeline.model import Attempt, Run

if TYPE_CHECKING:
    from airflow_knative.cli.airflow import AirflowApi

__all__ = ["collect"]

_LOGGER: Final = "airflow_knative.timeline"
_LOGS_AT_ONCE: Final = 4
_WITHOUT_LOG: Final = frozenset({"skipped", "upstream_failed", "removed", None})


def collect(api: AirflowApi, dag_id: str, run_id: str | None) -> Run:
    """Read one run; the latest when no run id is given.

    Timings that cannot be read (a log that is gone, a task that failed early) are left out.

    Raises:
        AirflowApiError: There is no such run, or Airflow cannot be asked.
    """
    run = api.run(dag_id, run_id)
    now = time.time()
    instances = [
        attempt
        for instance in api.task_instances(dag_id, run["dag_run_id"])
        for attempt in (api.tries(instance) if instance["try_number"] > 1 else [instance])
    ]
    with ThreadPoolExecutor(_LOGS_AT_ONCE) as pool:
        attempts = list(pool.map(lambda instance: _attempt(api, instance), instances))
    return Run(
        dag_id=dag_id,
        run_id=run["dag_run_id"],
        state=run["state"],
        queued=_seconds(run["queued_at"]) or _seconds(run["start_date"]) or _seconds(run["run_after"]) or now,
        start=_seconds(run["start_date"]),
        end=_seconds(run["end_date"]),
        attempts=tuple(sorted(attempts, key=_order)),
        now=now,
    )


def _order(attempt: Attempt) -> tuple[float, str, int, int]:
    begin = float("inf") if attempt.begin is None else attempt.begin
    return begin, attempt.task_id, attempt.map_index, attempt.try_number


def _attempt(api: AirflowApi, instance: dict[str, Any]) -> Attempt:
    timings = _timings(api, instance)
    return Attempt(
        task_id=instance["task_id"],
        map_index=instance["map_index"],
        try_number=instance["try_number"],
        state=instance["state"],
        scheduled=_seconds(instance["scheduled_when"]),
        queued=_seconds(instance["queued_when"]),
        start=_seconds(instance["start_date"]),
        end=_seconds(instance["end_date"]),
        stages={name: float(moment) for name, moment in timings.get("stages", {}).items() if moment is not None},
        cold=timings.get("cold"),
        worker=timings.get("worker"),
        service=timings.get("service"),
        prewarm=_prewarm(timings.get("prewarm")),
        label=instance.get("rendered_map_index"),
    )


def _prewarm(told: dict[str, float | None] | None) -> tuple[float, float | None] | None:
    return None if not told or told["nudged"] is None else (told["nudged"], told["ready"])


def _timings(api: AirflowApi, instance: dict[str, Any]) -> dict[str, Any]:
    if instance["state"] in _WITHOUT_LOG or instance["try_number"] < 1:
        return {}
    try:
        lines = api.log(instance, instance["try_number"])
    except AirflowApiError:
        return {}
    # A deferred task has one such line for each time that it ran; the last one is of the end that Airflow knows.
    return next((line for line in reversed(lines) if line.get("logger") == _LOGGER), {})


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
