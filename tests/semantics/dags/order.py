"""When tasks run, and which of them first."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.sdk import BaseOperator, chain, get_current_context, task
from twins import note, noting, twins


@twins(default_args={"retries": 0})
def pools(name: str) -> None:
    @task
    def works(_number: int = 0) -> None:
        time.sleep(0.3)

    for priority in (1, 5, 3):
        works.override(task_id=f"priority_{priority}", pool=f"one_slot_on_{name}", priority_weight=priority)()
    for number in (1, 2):
        works.override(task_id=f"two_slots_{number}", pool=f"two_slots_on_{name}", pool_slots=2)()
    works.override(task_id="one_at_a_time", max_active_tis_per_dag=1).expand(_number=[1, 2, 3])


@twins()
def priorities(_: str) -> None:
    for rule in ("downstream", "upstream", "absolute"):
        chain(
            *(
                BashOperator(task_id=f"{rule}_{weight}", bash_command="true", priority_weight=weight, weight_rule=rule)
                for weight in (2, 3)
            ),
            EmptyOperator(task_id=f"{rule}_end", priority_weight=7, weight_rule=rule),
        )


@twins(schedule="@daily", end_date=datetime(2026, 1, 9), catchup=False, max_active_runs=1)  # noqa: DTZ001
def daily(_: str) -> None:
    @task(depends_on_past=True)
    def counts() -> int:
        ti = get_current_context()["ti"]
        before = ti.xcom_pull(task_ids="counts", map_indexes=-1, include_prior_dates=True)
        return (before or 0) + 1

    @task
    def all_so_far() -> Any:
        return get_current_context()["ti"].xcom_pull(task_ids="counts", include_prior_dates=True)

    counts() >> all_so_far() >> LatestOnlyOperator(task_id="latest_only") >> EmptyOperator(task_id="only_then")


@twins(max_active_runs=1)
def depends_on_past(_: str) -> None:
    @task(depends_on_past=True)
    def fails_on_the_second() -> str:
        day = get_current_context()["ds"]
        if day == "2026-01-02":
            raise ValueError("on purpose")
        return str(day)

    @task(wait_for_downstream=True)
    def waits() -> None:
        pass

    fails_on_the_second() >> waits()


class Killable(BaseOperator):
    """Waits to be ended."""

    def execute(self, context: Any) -> None:
        self.context = context
        note(context, "started")
        time.sleep(300)

    def on_kill(self) -> None:
        note(self.context, "on_kill")


@twins(on_failure_callback=noting("dag failure"))
def killed(_: str) -> None:
    Killable(task_id="waits", on_failure_callback=noting("failure"), retries=1) >> EmptyOperator(task_id="after")


@twins(dagrun_timeout=timedelta(seconds=60), on_failure_callback=noting("dag failure"))
def out_of_time(_: str) -> None:
    # First of all, so that it runs when the time is over.
    Killable(task_id="waits", priority_weight=100) >> EmptyOperator(task_id="after")


@twins()
def cleared(_: str) -> None:
    @task
    def first() -> int:
        return 1

    @task(retries=1, retry_delay=timedelta(seconds=0.2))
    def second(value: int, params: dict[str, Any]) -> int:
        ti = get_current_context()["ti"]
        note(get_current_context(), f"second, try {ti.try_number}")
        return value + int(ti.try_number)

    @task
    def third(value: int) -> int:
        return value * 10

    third(second(first()))
