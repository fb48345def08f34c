"""How tries of a task end, and what follows."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from twins import note, noting, twins

SOON = timedelta(seconds=0.2)


@twins()
def retries(_: str) -> None:
    @task(retries=3, retry_delay=SOON, retry_exponential_backoff=True, max_retry_delay=timedelta(seconds=8))
    def backs_off() -> int:
        ti = get_current_context()["ti"]
        ti.xcom_push(key=f"try_{ti.try_number}", value=True)
        if ti.try_number < 4:
            raise ValueError(f"try {ti.try_number} of {ti.max_tries + 1}")
        return ti.try_number

    @task(retries=1, retry_delay=SOON)
    def gives_up() -> None:
        get_current_context()["ti"].xcom_push(key="left", value=[1])
        raise AirflowException("never works")

    @task(retries=3, retry_delay=SOON)
    def fails_for_good() -> None:
        raise AirflowFailException("no use in trying again")

    @task(retries=3, retry_delay=SOON)
    def skips() -> None:
        raise AirflowSkipException("nothing to do")

    @task(retries=1, retry_delay=SOON, execution_timeout=timedelta(seconds=1))
    def takes_too_long() -> None:
        if get_current_context()["ti"].try_number == 1:
            time.sleep(60)

    @task(retries=1, retry_delay=SOON)
    def exits() -> None:
        raise SystemExit(3)

    @task(trigger_rule="all_done")
    def after(context: Any = None) -> str:
        return "after all"

    [backs_off(), gives_up(), fails_for_good(), skips(), takes_too_long(), exits()] >> after()


@twins()
def policies(_: str) -> None:
    @task(retries=1, retry_delay=SOON)
    def remembers(task_state_store: Any = None) -> int:
        count = (task_state_store.get("count") or 0) + 1
        task_state_store.set("count", count)
        if count == 1:
            raise ValueError("once")
        return int(count)

    policy = ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=KeyError, action=RetryAction.FAIL, reason="no use"),
            RetryRule(exception=OSError, action=RetryAction.RETRY, retry_delay=SOON, reason="it may come back"),
        ]
    )

    @task(retries=3, retry_delay=timedelta(hours=1), retry_policy=policy)
    def fails_by_policy() -> None:
        raise KeyError("absent")

    @task(retries=3, retry_delay=timedelta(hours=1), retry_policy=policy)
    def retries_by_policy() -> None:
        if get_current_context()["ti"].try_number == 1:
            raise ConnectionError("gone")

    remembers()
    fails_by_policy()
    retries_by_policy()


def _breaks(_context: Any) -> None:
    raise RuntimeError("a callback that breaks")


@twins(
    on_success_callback=noting("dag success"),
    on_failure_callback=noting("dag failure"),
    default_args={
        "retry_delay": SOON,
        "on_execute_callback": noting("execute"),
        "on_success_callback": [noting("success"), noting("success again")],
        "on_failure_callback": noting("failure"),
        "on_retry_callback": noting("retry"),
        "on_skipped_callback": noting("skipped"),
    },
)
def callbacks(_: str) -> None:
    @task
    def succeeds() -> None:
        pass

    @task
    def fails() -> None:
        raise ValueError("on purpose")

    @task(retries=1)
    def works_at_the_second_try() -> None:
        if get_current_context()["ti"].try_number == 1:
            raise ValueError("on purpose")

    @task
    def skips() -> None:
        raise AirflowSkipException("on purpose")

    @task
    def mapped(number: int) -> int:
        return 1 // number

    @task(on_success_callback=_breaks)
    def has_a_broken_callback() -> str:
        return "and succeeds"

    succeeds()
    fails()
    works_at_the_second_try()
    skips()
    mapped.expand(number=[0, 1])
    has_a_broken_callback()


@twins(on_success_callback=noting("dag success"), on_failure_callback=noting("dag failure"))
def good(_: str) -> None:
    @task
    def works() -> None:
        note(get_current_context(), "done")

    works()
