"""Tasks that write down each of their executions outside of Airflow: in a row, mapped, deferred and retried."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, get_current_context, task

WORK = 0.8  # seconds
A_FEW = {"retries": 3, "retry_delay": timedelta(seconds=0.5)}
# A worker stays for the next fault; those that a fault ends make for cold starts enough.
WARM = {"executor_config": {"knative": {"window": 3600, "slots": 2, "max_scale": 2}}}


def note(what: str) -> None:
    """Write one line: what, task, map index, try, process, Unix time."""
    context = get_current_context()
    ti = context["ti"]
    line = f"{what} {ti.task_id} {ti.map_index} {ti.try_number} {os.getpid()} {time.time():.3f}\n"
    ledger = context["params"]["data"]["ledger"]
    if ledger.startswith("http://"):
        with urlopen(ledger, line.encode(), timeout=30):  # noqa: S310 # the test's own server
            return
    with Path(ledger).open("a") as file:  # O_APPEND: lines of many stay whole
        file.write(line)


def work(seconds: float = WORK) -> None:
    note("start")
    time.sleep(seconds)
    note("end")


class Deferred(BaseOperator):
    """Waits for a trigger between two executions of the same try."""

    def execute(self, context: Any) -> None:
        note("defer")
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context: Any, event: Any = None) -> str:
        work()
        return "resumed"


@dag(dag_id="ledgered", schedule=None, params={"data": None})
def ledgered() -> Any:
    """End as 10 + 20 + 30 + 40."""

    @task(**WARM)
    def once() -> list[int]:
        work()
        return [1, 2, 3, 4]

    @task(**A_FEW, **WARM)
    def each(number: int) -> int:
        work()
        return number * 10

    @task(**WARM)
    def total(numbers: Any) -> int:
        work()
        return sum(numbers)

    @task(**A_FEW, **WARM)
    def stubborn() -> str:
        work()
        if get_current_context()["ti"].try_number == 1:
            raise ValueError("It fails the first time.")
        return "done"

    numbers = once()
    numbers >> [stubborn(), Deferred(task_id="deferred", **WARM)]
    return total(each.expand(number=numbers))


def many(dag_id: str, *, slots: int, max_scale: int) -> Any:
    """As many instances as asked for, each as long as asked for."""

    @dag(dag_id=dag_id, schedule=None, params={"data": None}, max_active_tasks=1000)
    def make() -> None:
        @task
        def numbers(params: Any = None) -> list[int]:
            return list(range(params["data"]["count"]))

        @task(**A_FEW, executor_config={"knative": {"slots": slots, "max_scale": max_scale}})
        def one(number: int, params: Any = None) -> int:
            work(params["data"]["seconds"])
            return number

        one.expand(number=numbers())

    return make()


ledgered()
many("fifty", slots=50, max_scale=1)
many("thousand", slots=8, max_scale=4)
