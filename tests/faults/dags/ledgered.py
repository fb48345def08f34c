"""Tasks that write down each of their executions outside of Airflow."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, get_current_context, task


def _note(what: str) -> None:
    context = get_current_context()
    ti = context["ti"]
    line = f"{what} {ti.task_id} {ti.map_index} {ti.try_number} {os.getpid()}\n"
    with Path(context["params"]["data"]).open("a") as ledger:  # O_APPEND: lines of many processes stay whole
        ledger.write(line)


@dag(dag_id="ledgered", schedule=None, params={"data": None})
def ledgered() -> Any:
    @task
    def once() -> list[int]:
        _note("start")
        time.sleep(1.5)
        _note("end")
        return [1, 2]

    @task(retries=3, retry_delay=timedelta(seconds=0.5))
    def again(number: int) -> int:
        _note("start")
        time.sleep(1.5)
        _note("end")
        return number * 10

    again.expand(number=once())


ledgered()
