"""The executor with a stand-in for its dispatcher at the other end of the socket."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from airflow.executors.workloads import BundleInfo, ExecuteTask
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.models.connection_test import ConnectionTestKey
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.executor import KnativeExecutor, channel
from airflow_knative.executor import executor as executor_module
from airflow_knative.executor.channel import Channel, decode, encode
from airflow_knative.executor.claims import held_mark
from airflow_knative.executor.settings import ExecutorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = ExecutorSettings(
    endpoints="file:///e.json",
    signing_key=Path("k.pem"),
    connect_timeout=1.0,
    dispatch_retry_timeout=1.0,
    heartbeat_interval=1.0,
    lost_worker_timeout=1.0,
    max_inline_bytes=1,
    max_record_bytes=1,
    wakeup=True,
    wakeup_max_wait=0.2,
    prewarm=True,
    prewarm_depth=2,
    prewarm_limit=10,
)


class FakeDispatcher:
    """The other end of the executor's socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.file = sock.makefile("rb")
        self.sock = sock

    def receive(self) -> dict[str, Any]:
        return decode(self.file.readline())

    def tell(self, **message: Any) -> None:
        self.sock.sendall(encode(message))

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def dispatchers() -> list[FakeDispatcher]:
    return []


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch, dispatchers: list[FakeDispatcher]) -> Iterator[KnativeExecutor]:
    def start_dispatcher(self: Any) -> None:
        ours, theirs = socket.socketpair()
        if dispatchers:
            self._channel.close()
        self._channel = Channel(ours)
        dispatchers.append(FakeDispatcher(theirs))

    monkeypatch.setattr(KnativeExecutor, "_start_dispatcher", start_dispatcher)
    monkeypatch.setattr(ExecutorSettings, "from_configuration", lambda: SETTINGS)
    executor = KnativeExecutor(parallelism=4)
    executor.start()
    yield executor
    executor._channel.close()
    for dispatcher in dispatchers:
        dispatcher.close()


def _workload(
    task_id: str = "t", try_number: int = 1, *, config: dict[str, Any] | None = None, carrier: Any = None
) -> ExecuteTask:
    ti = TaskInstanceDTO(
        id=uuid4(),
        dag_id="d",
        task_id=task_id,
        run_id="r",
        try_number=try_number,
        dag_version_id=uuid4(),
        pool_slots=1,
        priority_weight=1,
        queue="default",
        executor_config=config or {"knative": {"timeout": 30}},
        context_carrier=carrier,
    )
    return ExecuteTask(ti=ti, dag_rel_path=Path("d.py"), token="t", log_path="l", bundle_info=BundleInfo(name="b"))


def _dispatch(executor: KnativeExecutor, workload: ExecuteTask) -> TaskInstanceKey:
    executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
    executor.heartbeat()
    return workload.key


def _sync(executor: KnativeExecutor) -> dict[Any, Any]:
    """Loop as the scheduler does; return the events it would act on."""
    executor.heartbeat()
    return {
        key: state for key, (state, _) in executor.get_event_buffer().items() if not isinstance(key, ConnectionTestKey)
    }


def test_a_workload_is_handed_over_whole(executor: KnativeExecutor, dispatchers: list[FakeDispatcher]) -> None:
    workload = _workload()
    key = _dispatch(executor, workload)
    message = dispatchers[0].receive()
    assert message["type"] == channel.RUN
    assert message["workload"]["ti"]["id"] == str(workload.ti.id)
    assert message["knative"] == {"timeout": 30}
    assert executor.running == {key}
    assert executor.queued_tasks == {}


def test_only_what_the_dispatcher_goes_by_is_handed_over(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    config = {"pod_override": object(), "knative": {"secrets": {"a", "b"}, "env": object(), "variables": {"y", "x"}}}
    _dispatch(executor, _workload(config=config))
    assert dispatchers[0].receive()["knative"] == {"variables": ["x", "y"]}


def test_an_option_that_means_nothing_fails_its_task_and_no_other(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    wrong = _workload("wrong", config={"knative": {"timeout": timedelta(minutes=10)}})
    for workload in (wrong, _workload("right")):
        executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
    executor.heartbeat()
    first, second = dispatchers[0].receive(), dispatchers[0].receive()
    assert "['timeout'] of the task is datetime.timedelta(seconds=600); allowed is a number" in first["trouble"]
    assert second["workload"]["ti"]["task_id"] == "right"
    dispatchers[0].tell(type=channel.DONE, call=first["call"], outcome="failed", info=first["trouble"])
    assert _sync(executor) == {wrong.key: TaskInstanceState.FAILED}


def test_what_cannot_be_handed_over_fails_and_the_scheduler_goes_on(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    wrong = _workload("wrong", carrier={"trace": object()})
    for workload in (wrong, _workload("right")):
        executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
    executor.heartbeat()
    state, reason = executor.get_event_buffer()[wrong.key]
    assert state == TaskInstanceState.FAILED
    assert "cannot be handed to the dispatcher" in str(reason)
    assert {key.task_id for key in executor.running if isinstance(key, TaskInstanceKey)} == {"right"}
    assert dispatchers[0].receive()["workload"]["ti"]["task_id"] == "right"


def test_a_settled_task_instance_frees_its_slot_and_makes_no_event(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    _dispatch(executor, _workload())
    call = dispatchers[0].receive()["call"]
    dispatchers[0].tell(type=channel.DONE, call=call, outcome="settled", info=None)
    assert _sync(executor) == {}
    assert executor.running == set()


@pytest.mark.parametrize(
    ("outcome", "state"), [("failed", TaskInstanceState.FAILED), ("stopped", TaskInstanceState.SUCCESS)]
)
def test_what_the_scheduler_has_to_act_on_is_an_event(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher], outcome: str, state: TaskInstanceState
) -> None:
    key = _dispatch(executor, _workload())
    call = dispatchers[0].receive()["call"]
    dispatchers[0].tell(type=channel.DONE, call=call, outcome=outcome, info="the reason")
    executor.heartbeat()
    assert executor.get_event_buffer()[key] == (state, "the reason")
    assert executor.running == set()


def test_a_deferred_task_instance_that_came_back_outlives_its_first_call(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    workload = _workload()
    key = _dispatch(executor, workload)
    first = dispatchers[0].receive()["call"]
    _dispatch(executor, workload)
    second = dispatchers[0].receive()["call"]
    assert first != second
    dispatchers[0].tell(type=channel.DONE, call=first, outcome="failed", info="late")
    assert _sync(executor) == {}
    assert executor.running == {key}
    dispatchers[0].tell(type=channel.DONE, call=second, outcome="settled", info=None)
    assert _sync(executor) == {}
    assert executor.running == set()


def test_a_wake_up_ends_the_wait_and_keeps_the_scheduler_from_sleeping(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_settings", SimpleNamespace(wakeup=True, wakeup_max_wait=60.0))
    dispatchers[0].tell(type=channel.WAKE)
    executor.heartbeat()  # would take a minute otherwise
    assert len(executor.get_event_buffer()) == 1


def test_the_wait_takes_the_place_of_the_schedulers_sleep(executor: KnativeExecutor) -> None:
    executor.heartbeat()
    assert len(executor.get_event_buffer()) == 1


def test_the_wait_is_short_after_something_happened_and_grows(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_settings", SimpleNamespace(wakeup=True, wakeup_max_wait=0.5))
    waits: list[float] = []
    monkeypatch.setattr(executor._channel, "wait", lambda seconds: (waits.append(seconds), time.sleep(seconds)))

    def loop(times: int) -> list[float]:
        waits.clear()
        for _ in range(times):
            executor.heartbeat()
            executor.get_event_buffer()
        return [round(seconds, 1) for seconds in waits]

    assert loop(4) == [0.1, 0.2, 0.4, 0.5]
    dispatchers[0].tell(type=channel.WAKE)
    assert loop(2) == [0.5, 0.1]
    assert loop(2) == [0.2, 0.4]
    _dispatch(executor, _workload())
    executor.get_event_buffer()
    assert loop(1) == [0.1]


def test_an_end_that_changes_nothing_does_not_end_the_wait(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    _dispatch(executor, _workload())
    call = dispatchers[0].receive()["call"]
    dispatchers[0].tell(type=channel.DONE, call=call, outcome="settled", info=None)
    waits: list[float] = []
    wait = executor._channel.wait
    monkeypatch.setattr(executor._channel, "wait", lambda seconds: (waits.append(seconds), wait(seconds)))
    executor.heartbeat()
    assert len(waits) > 1


def test_without_wake_up_nothing_blocks(executor: KnativeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_settings", SimpleNamespace(wakeup=False, wakeup_max_wait=60.0))
    monkeypatch.setattr(executor._channel, "wait", lambda _: pytest.fail("it waited"))
    executor.heartbeat()
    assert executor.get_event_buffer() == {}


def test_a_dispatcher_that_dies_is_replaced_and_told_what_was_under_way(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    key = _dispatch(executor, _workload())
    said = dispatchers[0].receive()
    dispatchers[0].close()
    assert _sync(executor) == {}
    assert dispatchers[1].receive() == said | {"again": True}
    assert executor.running == {key}


def _ti(state: TaskInstanceState, *, held: datetime | None = None) -> Any:
    key = TaskInstanceKey("d", state.value, "r", 1, -1)
    return SimpleNamespace(
        **key._asdict(),
        id=uuid4(),
        key=key,
        state=state,
        dag_version_id=uuid4(),
        pool_slots=1,
        priority_weight=1,
        queue="default",
        external_executor_id=held and held_mark(held),
        last_heartbeat_at=datetime.now(UTC),
    )


def test_what_runs_is_adopted_and_what_was_never_sent_is_not(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    running, queued = _ti(TaskInstanceState.RUNNING), _ti(TaskInstanceState.QUEUED)
    assert executor.try_adopt_task_instances([running, queued]) == [queued]
    message = dispatchers[0].receive()
    assert (message["type"], message["ti"]["id"]) == (channel.ADOPT, str(running.id))
    assert message["log_path"] == "dag_id=d/run_id=r/task_id=running/attempt=1.log"
    assert TaskInstanceDTO.model_validate(message["ti"]).id == running.id  # for remote logging
    assert executor.running == {running.key}


def test_what_waits_unclaimed_is_queued_anew_by_the_next_scheduler(
    executor: KnativeExecutor, dispatchers: list[FakeDispatcher]
) -> None:
    now = datetime.now(UTC)
    waiting, claimed = _ti(TaskInstanceState.RUNNING, held=now), _ti(TaskInstanceState.RUNNING, held=now)
    waiting.last_heartbeat_at = now  # the dispatcher's last one
    claimed.last_heartbeat_at = now + timedelta(microseconds=1)  # a worker's
    assert executor.try_adopt_task_instances([waiting, claimed]) == [waiting]
    assert dispatchers[0].receive()["ti"]["id"] == str(claimed.id)


def test_what_is_its_own_is_left_alone(executor: KnativeExecutor, dispatchers: list[FakeDispatcher]) -> None:
    key = _dispatch(executor, _workload())
    call = dispatchers[0].receive()["call"]
    for state in (TaskInstanceState.QUEUED, TaskInstanceState.RUNNING):
        ti = _ti(state)
        ti.key = key
        assert executor.try_adopt_task_instances([ti]) == []
    dispatchers[0].tell(type=channel.DONE, call=call, outcome="failed", info="why")
    assert _sync(executor) == {key: TaskInstanceState.FAILED}


def test_a_revoked_task_instance_is_forgotten(executor: KnativeExecutor, dispatchers: list[FakeDispatcher]) -> None:
    workload = _workload()
    key = _dispatch(executor, workload)
    call = dispatchers[0].receive()["call"]
    executor.revoke_task(ti=SimpleNamespace(key=key))  # type: ignore[arg-type]
    assert executor.running == set()
    dispatchers[0].tell(type=channel.DONE, call=call, outcome="failed", info="late")
    assert _sync(executor) == {}


def test_another_airflow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module.airflow, "__version__", "3.4.0")
    with pytest.raises(AirflowKnativeError, match=r"knows Airflow 3\.3, this is 3\.4\.0"):
        KnativeExecutor().start()


def test_a_dispatcher_that_does_not_come_up_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ExecutorSettings, "from_configuration", lambda: SETTINGS)
    monkeypatch.setenv("AIRFLOW__KNATIVE__ENDPOINTS", "nowhere")
    monkeypatch.setenv("AIRFLOW__KNATIVE__SIGNING_KEY", str(tmp_path / "absent.pem"))
    with pytest.raises(AirflowKnativeError, match="dispatcher did not come up"):
        KnativeExecutor().start()
