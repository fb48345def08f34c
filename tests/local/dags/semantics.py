"""One DAG for each thing that Airflow promises about a task."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseHook, BaseOperator, Variable, dag, get_current_context, task

INPUT = {"data": None}


def _note(path: str) -> Any:
    """Return a callback that writes down for whom it was called."""

    def callback(context: dict[str, Any]) -> None:
        ti = context["ti"]
        Path(context["params"]["data"]).joinpath(path).write_text(f"{ti.task_id} {ti.try_number}")

    return callback


@dag(dag_id="retried", schedule=None, params=INPUT)
def retried() -> Any:
    @task(retries=2, retry_delay=timedelta(seconds=0.1))
    def fails_twice() -> int:
        ti = get_current_context()["ti"]
        ti.xcom_push(key=f"try_{ti.try_number}", value=True)
        if ti.try_number < 3:
            raise ValueError("not yet")
        return ti.try_number

    return fails_twice()


@dag(dag_id="expanded", schedule=None, params=INPUT)
def expanded() -> Any:
    @task
    def numbers(params: dict[str, Any]) -> list[int]:
        return list(range(params["data"]))

    @task(executor_config={"knative": {"slots": 4}})
    def square(number: int) -> int:
        return number * number

    @task
    def add(squares: Any) -> dict[str, Any]:
        return {"sum": sum(squares), "last": squares[-1], "first two": list(squares[:2]), "count": len(squares)}

    return add(square.expand(number=numbers()))


class Deferring(BaseOperator):
    def execute(self, context: Any) -> None:
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume", kwargs={"said": "before"})

    def resume(self, context: Any, event: Any, said: str) -> str:
        return f"{said} and after"


@dag(dag_id="deferred", schedule=None, params=INPUT)
def deferred() -> None:
    Deferring(task_id="waits")


@dag(dag_id="timed_out", schedule=None, params=INPUT)
def timed_out() -> Any:
    @task(execution_timeout=timedelta(seconds=1), on_failure_callback=_note("failed"))
    def too_long() -> None:
        time.sleep(60)

    return too_long()


@dag(dag_id="called_back", schedule=None, params=INPUT)
def called_back() -> None:
    @task(on_failure_callback=_note("failed"))
    def fails() -> None:
        raise ValueError("on purpose")

    @task(on_success_callback=_note("succeeded"))
    def succeeds() -> None:
        pass

    @task(retries=1, retry_delay=timedelta(seconds=0.1), on_retry_callback=_note("retried"))
    def retries() -> None:
        if get_current_context()["ti"].try_number == 1:
            raise ValueError("on purpose")

    fails()
    succeeds()
    retries()


@dag(dag_id="xcoms", schedule=None, params=INPUT)
def xcoms() -> Any:
    @task(multiple_outputs=True)
    def push() -> dict[str, Any]:
        ti = get_current_context()["ti"]
        ti.xcom_push(key="odd key/with a slash", value={"nested": [1, None, "ü"]})
        assert ti.xcom_pull(task_ids="push", key="odd key/with a slash") == {"nested": [1, None, "ü"]}
        return {"when": datetime(2026, 1, 1), "number": 7}  # noqa: DTZ001

    @task
    def skip_one() -> None:
        """Stands between, so that what `pull` reads is not from right above it."""

    @task
    def pull() -> dict[str, Any]:
        ti = get_current_context()["ti"]
        return {
            "pushed": ti.xcom_pull(task_ids="push", key="odd key/with a slash"),
            "number": ti.xcom_pull(task_ids="push", key="number"),
            "when": ti.xcom_pull(task_ids="push", key="when").isoformat(),
            "absent": ti.xcom_pull(task_ids="push", key="absent"),
        }

    last = pull()
    push() >> skip_one() >> last
    return last


@dag(dag_id="configured", schedule=None, params=INPUT)
def configured() -> Any:
    @task
    def reads() -> dict[str, Any]:
        connection = BaseHook.get_connection("warehouse")
        return {
            "variable": Variable.get("greeting"),
            "json": Variable.get("settings", deserialize_json=True),
            "absent": Variable.get("absent", default="the default"),
            "connection": f"{connection.conn_type}://{connection.login}@{connection.host}/{connection.schema}",
        }

    @task
    def writes(read: dict[str, Any]) -> dict[str, Any]:
        Variable.set("written", "by a task")
        return read

    return writes(reads())


@dag(dag_id="talks", schedule=None, params=INPUT)
def talks() -> None:
    @task
    def talker(params: dict[str, Any]) -> None:
        go_on = Path(params["data"])
        with go_on.with_suffix(".ledger").open("a") as ledger:
            ledger.write("executed\n")
        print("said while it runs", flush=True)  # noqa: T201
        while not go_on.exists():
            time.sleep(0.05)

    talker()


@dag(dag_id="shell", schedule=None, params=INPUT)
def shell() -> None:
    BashOperator(task_id="sleeps", bash_command="echo $$ > {{ params.data }}; exec sleep 300")


class SlowToEnd(BaseOperator):
    template_fields = ("where",)

    def __init__(self, *, where: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.where = where

    def execute(self, context: Any) -> None:
        self._note(f"{context['ti'].try_number} begins")
        time.sleep(300)

    def on_kill(self) -> None:
        time.sleep(3)
        self._note("ends")

    def _note(self, text: str) -> None:
        with Path(self.where).open("a") as file:
            file.write(f"{text}\n")


@dag(dag_id="slow_to_end", schedule=None, params=INPUT)
def slow_to_end() -> None:
    SlowToEnd(task_id="sleeps", where="{{ params.data }}")


@dag(dag_id="branched", schedule=None, params=INPUT)
def branched() -> Any:
    @task.branch
    def choose(params: dict[str, Any]) -> str:
        return f"take_{params['data']}"

    @task
    def take_left() -> str:
        return "left"

    @task
    def take_right() -> str:
        return "right"

    @task(trigger_rule="none_failed_min_one_success")
    def join(*ways: str | None) -> list[str]:
        return [way for way in ways if way]

    left, right = take_left(), take_right()
    choose() >> [left, right]
    return join(left, right)


@dag(dag_id="large", schedule=None, params=INPUT)
def large() -> Any:
    @task
    def make(params: dict[str, Any]) -> str:
        return "x" * params["data"]

    @task
    def measure(text: str) -> int:
        return len(text)

    return measure(make())


@dag(dag_id="betrayed", schedule=None, params=INPUT)
def betrayed() -> Any:
    @task
    def innocent() -> str:
        return "kept"

    @task(retries=1, retry_delay=timedelta(seconds=0.1))
    def victim(said: str) -> str:
        return f"{said} on the second try"

    return victim(innocent())


for define in (
    betrayed,
    retried,
    expanded,
    deferred,
    timed_out,
    called_back,
    xcoms,
    configured,
    talks,
    shell,
    slow_to_end,
    branched,
    large,
):
    define()
