"""Tasks that wait: sensors of every kind, deferral, other DAGs, people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, BaseSensorOperator, Param, PokeReturnValue, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from twins import twins


class Rescheduled(BaseSensorOperator):
    """True once it has been rescheduled."""

    def poke(self, context: Any) -> bool:
        return context["ti"].get_first_reschedule_date(context) is not None


class Never(BaseSensorOperator):
    """Has one look, since the next one comes after its timeout."""

    def poke(self, context: Any) -> bool:
        return False


@twins()
def sensors(_: str) -> None:
    looks: list[int] = []

    @task.sensor(poke_interval=0.2, timeout=60)
    def pokes() -> PokeReturnValue:
        looks.append(1)
        return PokeReturnValue(is_done=len(looks) == 3, xcom_value=len(looks))

    @task
    def reads(value: int) -> int:
        return value

    @task.sensor(poke_interval=0.2, timeout=0.5, soft_fail=True)
    def skips_after_its_timeout() -> bool:
        return False

    @task.sensor(poke_interval=0.2, timeout=0.5, retries=2)
    def fails_after_its_timeout() -> bool:
        return False

    @task.sensor(poke_interval=0.2, timeout=60, retries=1, retry_delay=timedelta(seconds=0.2))
    def fails_once() -> bool:
        if get_current_context()["ti"].try_number == 1:
            raise ValueError("on purpose")
        return True

    @task.sensor(poke_interval=0.2, timeout=60)
    def decides_to_skip() -> bool:
        raise AirflowSkipException("nothing to wait for")

    reads(pokes())
    skips_after_its_timeout()
    fails_after_its_timeout()
    fails_once()
    decides_to_skip()
    Rescheduled(task_id="rescheduled", mode="reschedule", poke_interval=0.2)
    Never(task_id="rescheduled_until_its_timeout", mode="reschedule", poke_interval=1, timeout=0.5)


class Deferring(BaseOperator):
    """Defers as many times as it is told to."""

    def __init__(
        self, *, times: int, fails_at: int = 0, trigger_timeout: timedelta | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.times = times
        self.fails_at = fails_at
        self.trigger_timeout = trigger_timeout

    def execute(self, context: Any) -> None:
        self._defer(context, 1)

    def resume(self, context: Any, event: Any, time: int) -> int:
        context["ti"].xcom_push(key=f"time_{time}", value=time)
        if time == self.fails_at and context["ti"].try_number == 1:
            raise ValueError("on purpose")
        if time < self.times:
            self._defer(context, time + 1)
        return time

    def _defer(self, context: Any, time: int) -> None:
        self.defer(
            # Not sooner: LocalExecutor takes a task instance that is back before its event for lost.
            trigger=TimeDeltaTrigger(timedelta(seconds=600 if self.trigger_timeout else 6)),
            method_name="resume",
            kwargs={"time": time},
            timeout=self.trigger_timeout,
        )


@twins()
def deferrals(_: str) -> None:
    soon = datetime(2026, 1, 1, tzinfo=UTC)
    Deferring(task_id="once", times=1)
    Deferring(task_id="three_times", times=3)
    Deferring(task_id="tries_again", times=2, fails_at=2, retries=1, retry_delay=timedelta(seconds=0.2))
    Deferring(task_id="waits_too_long", times=1, trigger_timeout=timedelta(seconds=0.5))
    Deferring.partial(task_id="mapped").expand(times=[1, 2])
    DateTimeSensorAsync(task_id="at_a_time", target_time=soon)
    TimeDeltaSensor(task_id="after_a_while", delta=timedelta(seconds=3), deferrable=True)


@twins(params={"number": Param(1, type="integer"), "who": "nobody"})
def target(_: str) -> None:
    @task
    def told(params: dict[str, Any]) -> dict[str, Any]:
        return dict(params)

    @task
    def fails_if_told(params: dict[str, Any]) -> None:
        if params["number"] > 5:
            raise ValueError("on purpose")

    told() >> fails_if_told()


@twins()
def triggers(name: str) -> None:
    when = "2026-02-0{}T00:00:00+00:00"
    waits_in_its_worker = TriggerDagRunOperator(
        task_id="waits_in_its_worker",
        trigger_dag_id=f"target_on_{name}",
        trigger_run_id="of_poking",
        logical_date=when.format(1),
        conf={"number": 2, "who": "{{ dag.dag_id }}"},
        wait_for_completion=True,
        poke_interval=1,
    )
    sees_the_task = ExternalTaskSensor(
        task_id="sees_the_task",
        external_dag_id=f"target_on_{name}",
        external_task_id="told",
        execution_date_fn=lambda _: datetime(2026, 2, 1, tzinfo=UTC),
        poke_interval=1,
    )
    waits_in_the_triggerer = TriggerDagRunOperator(
        task_id="waits_in_the_triggerer",
        trigger_dag_id=f"target_on_{name}",
        trigger_run_id="of_deferring",
        logical_date=when.format(2),
        conf={"number": 3},
        wait_for_completion=True,
        deferrable=True,
        poke_interval=6,  # as above
    )
    fails_with_its_target = TriggerDagRunOperator(
        task_id="fails_with_its_target",
        trigger_dag_id=f"target_on_{name}",
        trigger_run_id="of_failing",
        logical_date=when.format(3),
        conf={"number": 9},
        wait_for_completion=True,
        poke_interval=1,
    )
    TriggerDagRunOperator(
        task_id="does_not_wait",
        trigger_dag_id=f"target_on_{name}",
        trigger_run_id="unattended",
        logical_date=when.format(4),
    )
    waits_in_its_worker >> sees_the_task >> waits_in_the_triggerer >> fails_with_its_target


@twins()
def people(_: str) -> None:
    approval = ApprovalOperator(task_id="approval", subject="Go on?", body="Really, {{ dag_run.run_id }}?")
    choice = HITLOperator(
        task_id="choice",
        subject="Which?",
        options=["a", "b", "c"],
        multiple=True,
        params={"why": Param("", type="string")},
    )

    @task
    def chosen(answer: Any) -> Any:
        return [answer["chosen_options"], answer["params_input"]]

    @task
    def after() -> None:
        pass

    approval >> after()
    chosen(choice.output)
    HITLOperator(
        task_id="nobody_answers",
        subject="Anybody?",
        options=["yes", "no"],
        defaults=["no"],
        response_timeout=timedelta(seconds=2),
    )
