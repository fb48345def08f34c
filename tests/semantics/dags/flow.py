"""Which tasks run, and which are skipped."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.sdk import TaskGroup, TriggerRule, chain, get_current_context, setup, task, task_group, teardown
from airflow.sdk.exceptions import AirflowSkipException
from twins import note, twins


@twins()
def trigger_rules(_: str) -> None:
    @task
    def good() -> None:
        pass

    @task
    def bad() -> None:
        raise ValueError("on purpose")

    @task(trigger_rule="all_done")
    def skipped() -> None:
        raise AirflowSkipException

    @task
    def below() -> None:
        pass

    above = {"good": good(), "bad": bad(), "skipped": skipped()}
    above["upstream_failed"] = below()
    # One after the other: with a failed and a skipped task above, what is seen first decides.
    above["good"] >> above["bad"] >> above["skipped"]
    above["bad"] >> above["upstream_failed"]
    some = [("good",), ("bad",), ("skipped",), ("good", "bad"), ("good", "skipped"), ("bad", "skipped"), tuple(above)]
    for rule in TriggerRule:
        if rule == TriggerRule.ALL_DONE_SETUP_SUCCESS:  # of teardowns only
            continue
        for several in some:
            last = EmptyOperator(task_id=f"{rule.value}-{'-'.join(several)}", trigger_rule=rule)
            for one in several:
                above[one] >> last


@twins()
def branches(_: str) -> None:
    @task.branch
    def one() -> str:
        return "left"

    @task.branch
    def into_a_group() -> list[str]:
        return ["group.first"]

    @task
    def left() -> str:
        return "left"

    @task
    def right() -> str:
        return "right"

    with TaskGroup("group") as group:
        chain(EmptyOperator(task_id="first"), EmptyOperator(task_id="second"))

    @task(trigger_rule="none_failed_min_one_success")
    def join(*ways: str | None) -> list[str]:
        return [way for way in ways if way]

    lefts, rights = left(), right()
    one() >> [lefts, rights]
    into_a_group() >> [EmptyOperator(task_id="beside_the_group"), group]
    join(lefts, rights)

    @task.branch
    def to_nothing() -> None:
        return None

    to_nothing() >> EmptyOperator(task_id="not_this")

    @task.branch
    def to_nowhere() -> str:
        return "no_such_task"

    to_nowhere() >> EmptyOperator(task_id="neither_this")


@twins()
def short_circuits(_: str) -> None:
    @task.short_circuit
    def closes() -> bool:
        return False

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def closes_softly() -> list[Any]:
        return []

    @task.short_circuit
    def stays_open() -> int:
        return 1

    @task(trigger_rule="all_done")
    def regardless(name: str) -> str:
        return name

    for number, first in enumerate((closes, closes_softly, stays_open)):
        last = regardless.override(task_id=f"regardless_{number}")("ran")
        chain(first(), EmptyOperator(task_id=f"next_{number}"), last)
    LatestOnlyOperator(task_id="latest_only") >> EmptyOperator(task_id="after_latest_only")


@twins()
def groups(_: str) -> None:
    @task
    def number(value: int) -> int:
        return value

    @task
    def add(*values: int) -> int:
        return sum(values)

    @task_group(default_args={"retries": 1, "retry_delay": 0.2})
    def outer(start: int) -> Any:
        @task_group(prefix_group_id=False)
        def inner(value: int) -> Any:
            return number.override(task_id="inside")(value + 1)

        @task
        def again(value: int) -> int:
            if get_current_context()["ti"].try_number == 1:
                raise ValueError("once")
            return value

        return again(add(number(start), inner(start)))

    add.override(task_id="total")(outer(1), outer(10))


@twins()
def setups(name: str) -> None:
    def said(what: str) -> str:
        note(get_current_context(), what)
        return what

    for fails in ("nothing", "setup", "work", "teardown"):
        with TaskGroup(f"fails_{fails}"):

            @setup
            def make(fails: str) -> str:
                if fails == "setup":
                    raise ValueError("on purpose")
                return said("made")

            @task
            def work(made: str, fails: str) -> str:
                if fails == "work":
                    raise ValueError("on purpose")
                return said(f"worked with what was {made}")

            @teardown(on_failure_fail_dagrun=False)
            def remove(made: str, fails: str) -> str:
                if fails == "teardown":
                    raise ValueError("on purpose")
                return said(f"removed what was {made}")

            made = make(fails)
            done = work(made, fails)
            done >> remove(made, fails)
            done >> EmptyOperator(task_id="next")


@twins()
def teardown_decides(_: str) -> None:
    @setup
    def make() -> None:
        pass

    @task
    def work() -> None:
        pass

    @teardown(on_failure_fail_dagrun=True)
    def remove() -> None:
        raise ValueError("on purpose")

    first, last = make(), remove()
    first >> work() >> last
    first >> last
