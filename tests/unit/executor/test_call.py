"""Calls to workers of every kind, hostile ones among them; the database is a stand-in that keeps what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import OperationalError, ProgrammingError

from airflow_knative.executor import call as call_module
from airflow_knative.executor import waiting as waiting_module
from airflow_knative.executor.call import Call, follow
from airflow_knative.executor.context import Context
from airflow_knative.executor.database import Beat, FencedOffError, NotRunnableError, Sighting
from airflow_knative.executor.endpoints import Endpoint, NoEndpointError
from airflow_knative.executor.journal import WriteRefusedError
from airflow_knative.executor.outcome import Outcome, Result
from airflow_knative.executor.remotelog import RemoteLogs
from airflow_knative.executor.settings import ExecutorSettings
from airflow_knative.executor.stream import Workers
from airflow_knative.wire import (
    ExecutionApi,
    Fence,
    Finished,
    LogLine,
    Missed,
    Signer,
    Stages,
    Started,
    TaskRequest,
    Verifier,
    Write,
    encode_record,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from airflow_knative.executor.journal import Owner

TI_ID = "01a2032d-f1ad-75ae-8c56-e25e404fe0f7"
FENCE = Fence(hostname="scheduler", pid=7)
STATE = f"/task-instances/{TI_ID}/state"
STARTED = encode_record(Started(ti_id=TI_ID, try_number=1, worker="w", cold=True))
XCOM = encode_record(Write(seq=0, method="POST", path="/xcoms/d/r/t/return_value", body=42))


def success(seq: int) -> bytes:
    return encode_record(Write(seq=seq, method="PATCH", path=STATE, body={"state": "success"}))


def finished(writes: int, state: str = "success", code: int = 0) -> bytes:
    stages = Stages(received=1.0, started=2.0, finished=3.0)
    return encode_record(Finished(state=state, exit_code=code, writes=writes, stages=stages))


class FakeDatabase:
    """Airflow's database as far as a call is concerned."""

    def __init__(self) -> None:
        self.state: str | None = "queued"
        self.owner_pid = 0
        self.fences = itertools.count(FENCE.pid)
        self.held: datetime | None = None
        self.claimed = False
        self.away = 0
        self.applied: list[Write] = []
        self.refuse: str | None = None
        self.serving = False
        self.last_heartbeat: datetime | None = None
        self.lock = threading.Lock()

    def new_fence(self) -> Fence:
        return FENCE.model_copy(update={"pid": next(self.fences)})

    def start(
        self, workload: dict[str, Any], fence: Fence, *, held: datetime | None, again: bool, **_: Any
    ) -> TaskRequest:
        self.be_away()
        unclaimed = again and self.state == "running" and self.held is not None and not self.claimed
        if self.state != "queued" and not unclaimed:
            raise NotRunnableError(self.state)
        self.state, self.owner_pid, self.held = "running", fence.pid, held
        return TaskRequest(
            turn=str(fence.pid),
            claim=held is not None,
            ti=workload["ti"],
            dag_rel_path="d.py",
            bundle_name="dags-folder",
            context={},
            api_version="v",
            execution_api=ExecutionApi(url="http://api/", token="t"),
            fence=fence,
        )

    def be_away(self) -> None:
        if self.away:
            self.away -= 1
            raise OperationalError("SELECT 1", {}, Exception("server closed the connection"))

    def apply(self, owner: Owner, fence: Fence, writes: Sequence[Write], *, settled: bool) -> bool:
        assert owner.ti_id == UUID(TI_ID)
        self.be_away()
        with self.lock:
            if not (settled or self.state == "running") or self.owner_pid != fence.pid:
                raise FencedOffError("not here")
            if self.refuse:
                raise WriteRefusedError(self.refuse)
            self.applied += writes
            states = [write.body["state"] for write in writes if write.path == STATE]
            if states:
                self.state = states[-1]
            return bool(states)

    def heartbeat(self, beats: list[Beat]) -> tuple[set[str], dict[str, datetime]]:
        (beat,) = beats
        if self.state != "running" or self.owner_pid != beat.fence.pid:
            return {beat.ti_id}, {}
        if beat.held is None or beat.held != self.held or self.claimed:
            return set(), {}
        self.held = datetime.now(UTC)
        return set(), {beat.ti_id: self.held}

    def hold(self, _owner: Owner, fence: Fence, at: datetime) -> bool:
        self.held = at
        return self.state == "running" and self.owner_pid == fence.pid

    def serves_others(self, _owner: Owner, *, since: datetime, whole_dag: bool) -> bool:
        self.be_away()
        assert since < datetime.now(UTC)
        assert whole_dag  # as the stage's endpoint is
        return self.serving

    def look(self, owner: Owner) -> Sighting | None:
        self.be_away()
        if self.state is None:
            return None
        fence = Fence(hostname="scheduler", pid=self.owner_pid)
        return Sighting(ti_id=owner.ti_id, state=self.state, fence=fence, last_heartbeat=self.last_heartbeat)

    def fence_off(self, _owner: Owner, fence: Fence) -> bool:
        self.be_away()
        mine = self.state == "running" and self.owner_pid == fence.pid
        if mine:
            self.owner_pid = 0
        return mine


class FakeEndpoints:
    """One service for everything, once it is there."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None

    def find(self, dag_id: str, task_id: str) -> Endpoint:
        if self.endpoint is None:
            raise NoEndpointError(f"No Knative Service for task {task_id!r} of DAG {dag_id!r}.")
        return self.endpoint

    def known(self, dag_id: str, task_id: str) -> Endpoint | None:
        with contextlib.suppress(NoEndpointError):
            return self.find(dag_id, task_id)
        return None


class Stage:
    """A call, a worker of any kind, and what became of it."""

    def __init__(self, context: Context, database: FakeDatabase, log: Path) -> None:
        self.context, self.database, self.log_path = context, database, log
        self.behaviour: Any = None
        self.requests: list[dict[str, Any]] = []
        self.verifier: Verifier
        self.woken: list[str | None]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        token = request.headers["authorization"].removeprefix("Bearer ")
        assert self.verifier.verify(token, body).ti_id == TI_ID
        self.requests.append(json.loads(body))
        answer: web.StreamResponse = await self.behaviour(request)
        return answer

    def first(self, behaviour: Any, *, times: int) -> None:
        """Have the worker behave so for some requests, and as it would have from then on."""
        good = self.behaviour

        async def behave(request: web.Request) -> Any:
            return await (behaviour if len(self.requests) <= times else good)(request)

        self.behaviour = behave

    def answers(self, *chunks: bytes, then: Any = None) -> None:
        """Have the worker stream `chunks`."""

        async def behave(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            if then is not None:
                await then(request, response)
            return response

        self.behaviour = behave

    def call(self, **message: Any) -> Call:
        ti = {
            "id": TI_ID,
            "dag_id": "d",
            "task_id": "t",
            "run_id": "r",
            "try_number": 1,
            "map_index": -1,
        }
        workload = {"ti": ti, "log_path": self.log_path.name}
        return Call(self.context, {"workload": workload, "queued": 0.5, "knative": {}, **message})

    async def run(self) -> Result:
        return await asyncio.wait_for(self.call().run(), 30)

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""


@pytest_asyncio.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    settings = ExecutorSettings(
        endpoints="",
        signing_key=Path(),
        connect_timeout=5.0,
        dispatch_retry_timeout=3.0,
        heartbeat_interval=0.1,
        lost_worker_timeout=1.0,
        max_inline_bytes=1,
        max_record_bytes=1_000_000,
        wakeup=False,
        wakeup_max_wait=1.0,
        prewarm=True,
        prewarm_depth=2,
        prewarm_limit=10,
    )
    monkeypatch.setattr(call_module.TaskLog, "__init__", _open_log(tmp_path))
    key = Ed25519PrivateKey.generate()
    database, endpoints = FakeDatabase(), FakeEndpoints()
    woken: list[str | None] = []
    async with Workers(connect_timeout=5.0, max_record_bytes=1_000_000) as workers:
        context = Context(
            settings,
            database=database,  # type: ignore[arg-type]
            endpoints=endpoints,
            signer=Signer(key),
            workers=workers,
            wake=lambda: woken.append(database.state),
        )
        stage = Stage(context, database, tmp_path / "task.log")
        stage.woken = woken
        stage.verifier = Verifier(key.public_key(), audience="service")
        app = web.Application()
        app.router.add_post("/run_task_instance", stage.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)  # a worker that hangs need not end first
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        endpoints.endpoint = Endpoint(dag_id="d", name="service", url=f"http://127.0.0.1:{port}")
        yield stage
        await runner.cleanup()
        context.close()


def _open_log(folder: Path) -> Any:
    def init(self: Any, path: str) -> None:
        self._file = (folder / path).open("ab", buffering=0)

    return init


async def test_a_whole_answer_settles_the_task_instance(stage: Stage) -> None:
    line = encode_record(LogLine(line='{"event":"hello"}'))
    stage.answers(STARTED, line + XCOM, success(1), finished(2))
    assert await stage.run() == Result(Outcome.SETTLED)
    assert stage.database.state == "success"
    assert [write.seq for write in stage.database.applied] == [0, 1]
    first, last = stage.log.splitlines()
    assert json.loads(first) == {"event": "hello"}
    timings = json.loads(last)
    assert timings["event"] == "Task instance timings"
    assert timings["cold"] is True
    assert timings["service"] == "service"
    assert set(timings["stages"]) == {
        "queued", "dispatched", "running", "sent", "received", "started", "finished", "ended", "applied",
    }  # fmt: skip


class UploadedLogs(RemoteLogs):
    """What was uploaded: path, task instance and text."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.uploaded: list[tuple[str, str, str]] = []

    def upload(self, path: str | None, ti: dict[str, Any]) -> None:
        self.uploaded.append((str(path), ti["id"], self._stage.log))

    def close(self) -> None:
        pass


async def test_the_whole_log_is_uploaded_when_the_call_ends(stage: Stage) -> None:
    stage.context.remote_logs = logs = UploadedLogs(stage)
    stage.answers(STARTED, success(0), finished(1))
    await stage.run()
    assert logs.uploaded == [("task.log", TI_ID, stage.log)]
    assert "Task instance timings" in stage.log


async def _report_soon(stage: Stage, state: str) -> None:
    while "own output" not in stage.log:  # noqa: ASYNC110 - where users see it
        await asyncio.sleep(0.01)
    stage.database.state = state


async def test_the_log_of_an_adopted_task_is_uploaded_and_says_what_is_not_in_it(stage: Stage) -> None:
    stage.context.remote_logs = logs = UploadedLogs(stage)
    stage.log_path.write_text("what came before\n")
    stage.database.state = "running"
    ti = {"id": TI_ID, "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
    result, _ = await asyncio.gather(follow(stage.context, ti, stage.log_path.name), _report_soon(stage, "success"))
    assert result == Result(Outcome.SETTLED)
    assert logs.uploaded == [("task.log", TI_ID, stage.log)]
    before, said = stage.log.splitlines()
    assert before == "what came before"
    assert "in the worker's own output only" in json.loads(said)["event"]


async def test_the_log_of_a_task_that_a_predecessor_started_is_uploaded(stage: Stage) -> None:
    stage.context.remote_logs = logs = UploadedLogs(stage)
    stage.database.state = "running"
    await asyncio.gather(stage.call(again=True).run(), _report_soon(stage, "success"))
    assert logs.uploaded == [("task.log", TI_ID, stage.log)]


async def test_the_log_of_a_task_whose_connection_broke_is_uploaded_once_it_has_reported(stage: Stage) -> None:
    stage.context.remote_logs = logs = UploadedLogs(stage)
    stage.answers(STARTED)
    await asyncio.gather(stage.run(), _report_soon(stage, "success"))
    assert logs.uploaded == [("task.log", TI_ID, stage.log)]
    assert "in the worker's own output only" in stage.log


async def test_the_scheduler_is_woken_by_the_state_and_not_by_the_end(stage: Stage) -> None:
    async def linger(_request: web.Request, response: web.StreamResponse) -> None:
        while not stage.woken:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await stage.context.heartbeat_once()  # finds it not running, which is no reason to stop its callbacks
        late = Write(seq=1, method="POST", path="/xcoms/d/r/t/link", body="after the end")
        await response.write(encode_record(late) + finished(2))

    stage.answers(STARTED, success(0), then=linger)
    assert await stage.run() == Result(Outcome.SETTLED)
    assert stage.woken == ["success"]
    assert [write.path for write in stage.database.applied] == [STATE, "/xcoms/d/r/t/link"]
    assert "Task instance timings" in stage.log


async def test_a_record_may_arrive_in_pieces(stage: Stage) -> None:
    whole = STARTED + XCOM + success(1) + finished(2)
    stage.answers(*(whole[index : index + 1] for index in range(len(whole))))
    assert (await stage.run()).outcome is Outcome.SETTLED


async def test_a_task_instance_that_is_not_queued_any_more_is_left_alone(stage: Stage) -> None:
    stage.database.state = "running"
    assert await stage.run() == Result(Outcome.SETTLED)
    assert stage.requests == []


@pytest.mark.parametrize("key", ["state", "a/state"])
@pytest.mark.parametrize("value", [None, 7, "running", {"state": "failed"}])
async def test_an_xcom_may_be_called_state(stage: Stage, key: str, value: Any) -> None:
    xcom = Write(seq=0, method="POST", path=f"/xcoms/d/r/t/{key}", body=value)
    stage.answers(STARTED, encode_record(xcom), success(1), finished(2))
    assert await stage.run() == Result(Outcome.SETTLED)
    assert stage.database.applied[0] == xcom
    assert stage.database.state == "success"


async def test_a_task_that_pushed_an_xcom_called_state_can_still_be_stopped(stage: Stage) -> None:
    async def wait(_request: web.Request, _response: web.StreamResponse) -> None:
        while not stage.database.applied:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stage.database.state = "failed"
        await asyncio.Event().wait()

    stage.answers(STARTED, encode_record(Write(seq=0, method="POST", path="/xcoms/d/r/t/state", body=1)), then=wait)
    running = asyncio.create_task(stage.run())
    while not running.done():
        await asyncio.sleep(0.05)
        await stage.context.heartbeat_once()
    assert await running == Result(Outcome.SETTLED)
    assert "The task instance was stopped" in stage.log


async def test_what_cannot_be_run_is_never_started_and_its_log_says_why(stage: Stage) -> None:
    result = await stage.call(trouble="executor_config is wrong").run()
    assert result == Result(Outcome.FAILED, "executor_config is wrong")
    assert json.loads(stage.log)["event"] == "executor_config is wrong"
    assert stage.database.state == "queued"  # as the scheduler expects of what an executor failed to run
    assert stage.requests == []


FOREIGN = [
    Write(seq=0, method="PATCH", path="/task-instances/00000000-0000-0000-0000-000000000000/state", body={}),
    Write(seq=0, method="POST", path="/xcoms/other/r/t/return_value", body=1),
    Write(seq=0, method="POST", path="/xcoms/d/other/t/return_value", body=1),
    Write(seq=0, method="POST", path="/xcoms/d/r/other/return_value", body=1),
    Write(seq=0, method="POST", path="/xcoms/d/r/t/return_value", query={"map_index": "1"}, body=1),
]


@pytest.mark.parametrize("write", FOREIGN, ids=lambda write: write.path)
async def test_a_write_for_somebody_else_fails_the_task_with_that_reason(stage: Stage, write: Write) -> None:
    stage.answers(STARTED, encode_record(write), success(1), finished(2))
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "does not belong to task 't' of DAG 'd', run 'r'" in str(result.reason)
    assert stage.database.applied == []
    assert stage.database.owner_pid == 0  # the worker is not believed any more
    assert "does not belong to" in stage.log


HOSTILE: dict[str, tuple[bytes, ...]] = {
    "not JSON": (b"<html>busy</html>\n",),
    "does not begin as started": (XCOM, success(1), finished(2)),
    "started for another task instance": (
        encode_record(Started(ti_id="other", try_number=1, worker="w", cold=False)),
        finished(0),
    ),
    "starts twice": (STARTED, STARTED, finished(0)),
    "writes out of order": (STARTED, success(1), XCOM, finished(2)),
    "repeats a write": (STARTED, XCOM, XCOM, finished(2)),
    "says more writes than came": (STARTED, success(0), finished(2)),
    "says fewer writes than came": (STARTED, XCOM, success(1), finished(1)),
    "writes a second state": (STARTED, success(0), success(1), finished(2)),
    "an endless record": (STARTED, b"x" * 3_000_000),
}


@pytest.mark.parametrize("chunks", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_answer_never_succeeds(stage: Stage, chunks: tuple[bytes, ...]) -> None:
    async def pause(_request: web.Request, _response: web.StreamResponse) -> None:
        await asyncio.sleep(0.2)

    stage.answers(*chunks, then=pause)
    result = await stage.run()
    if stage.database.state == "success":  # a valid final state came first; what followed changed nothing
        assert stage.database.applied[-1].body == {"state": "success"}
        assert sum(write.path == STATE for write in stage.database.applied) == 1
    else:
        assert result.outcome is Outcome.FAILED
        assert result.reason


async def test_an_end_without_a_state_fails_the_task(stage: Stage) -> None:
    stage.answers(STARTED, XCOM, finished(1, state="failed", code=-9))
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "exit code -9 without a state" in str(result.reason)


async def test_a_refused_write_fails_the_task(stage: Stage) -> None:
    stage.database.refuse = "Airflow refuses the write: too large to map"
    stage.answers(STARTED, XCOM, success(1), finished(2))
    result = await stage.run()
    assert result == Result(Outcome.FAILED, "Airflow refuses the write: too large to map")
    assert stage.database.state == "running"  # the scheduler fails it, with its retries and callbacks


async def test_an_answer_that_is_cut_is_no_success(stage: Stage) -> None:
    stage.answers(STARTED, XCOM, b"activator request timeout")
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "no heartbeat of the task" in str(result.reason)
    assert "activator request timeout" in stage.log
    assert stage.database.owner_pid == 0


async def test_an_answer_without_its_end_waits_for_the_worker_to_report(stage: Stage) -> None:
    async def report(_request: web.Request, _response: web.StreamResponse) -> None:
        async def later() -> None:
            await asyncio.sleep(0.5)
            stage.database.state = "success"

        stage.task = asyncio.create_task(later())  # type: ignore[attr-defined]

    stage.answers(STARTED, XCOM, then=report)
    assert await stage.run() == Result(Outcome.SETTLED)


async def test_heartbeats_of_a_worker_without_caller_keep_its_task(stage: Stage) -> None:
    stage.answers(STARTED)
    running = asyncio.create_task(stage.run())
    for _ in range(8):
        await asyncio.sleep(0.25)
        stage.database.last_heartbeat = datetime.now(UTC)
        assert not running.done()
    stage.database.state = "success"
    assert await running == Result(Outcome.SETTLED)


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
async def test_clocks_that_differ_make_no_worker_lost_and_none_alive(stage: Stage, off: float) -> None:
    stage.answers(STARTED)
    running = asyncio.create_task(stage.run())
    for _ in range(8):
        stage.database.last_heartbeat = datetime.now(UTC) + timedelta(seconds=off)  # by the API server's clock
        await asyncio.sleep(0.25)
        assert not running.done()
    result = await asyncio.wait_for(running, 5)
    assert "no heartbeat of the task for 1 s" in str(result.reason)


async def test_a_silent_worker_is_left_and_lost(stage: Stage) -> None:
    async def hang(_request: web.Request, _response: web.StreamResponse) -> None:
        await asyncio.sleep(30)

    stage.answers(STARTED, then=hang)
    running = asyncio.create_task(stage.run())
    while not running.done():
        await asyncio.sleep(0.1)
        await stage.context.heartbeat_once()
    assert (await running).outcome is Outcome.FAILED


@pytest.mark.parametrize("interval", [0.1, 0.45])
async def test_silence_is_noticed_at_every_interval_of_heartbeats(stage: Stage, interval: float) -> None:
    stage.context.settings = dataclasses.replace(stage.context.settings, heartbeat_interval=interval)
    stage.answers(STARTED, then=lambda *_: asyncio.Event().wait())
    call = stage.call()
    running = asyncio.create_task(call.run())
    while not call.is_listening:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    call.last_heard -= 3600
    stage.context._last_beat = time.monotonic() - 1.2 * interval  # a little late, as timers are
    await stage.context.heartbeat_once()
    assert (await asyncio.wait_for(running, 10)).outcome is Outcome.FAILED
    assert "Nothing came from service service for too long" in stage.log


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds in which a task is gone that is to stop."""
    monkeypatch.setattr(call_module, "_KILLED", 0.5)
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "1")
    return 0.5


async def _closed(request: web.Request) -> None:
    """Wait until the dispatcher has closed a request's connection."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("failed", Outcome.SETTLED), (None, Outcome.SETTLED), ("restarting", Outcome.STOPPED)],
)
async def test_a_changed_state_stops_the_worker(
    stage: Stage, killed: float, state: str | None, outcome: Outcome
) -> None:
    closed = asyncio.Event()

    async def wait_for_the_end(request: web.Request, response: web.StreamResponse) -> None:
        stage.database.state = state
        try:
            await _closed(request)
        finally:
            closed.set()

    stage.answers(STARTED, then=wait_for_the_end)
    running = asyncio.create_task(stage.run())
    while not running.done():
        await asyncio.sleep(0.05)
        await stage.context.heartbeat_once()
    assert (await running).outcome is outcome
    await asyncio.wait_for(closed.wait(), 10)


async def test_a_cleared_task_has_time_to_end_before_its_next_try(stage: Stage, killed: float) -> None:
    """Counted from the moment in which its worker sees that it lost its caller."""
    ends: list[float] = []

    async def until_closed(request: web.Request, _response: web.StreamResponse) -> None:
        await _closed(request)
        ends.append(time.monotonic())

    stage.answers(STARTED, then=until_closed)
    call = stage.call()
    running = asyncio.create_task(call.run())
    while not call.is_listening:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    stage.database.state = "restarting"
    await stage.context.heartbeat_once()
    assert await running == Result(Outcome.STOPPED)
    assert time.monotonic() - ends[0] >= 0.9 * killed


async def test_a_cleared_task_without_a_caller_has_time_to_hear_of_it_too(stage: Stage, killed: float) -> None:
    stage.answers(STARTED)
    running = asyncio.create_task(stage.run())
    while "Waiting for its worker" not in stage.log:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    begun = time.monotonic()
    stage.database.state = "restarting"
    assert await running == Result(Outcome.STOPPED)
    assert time.monotonic() - begun >= 1.0 + killed


async def test_what_no_worker_has_claimed_needs_no_time_to_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "_KILLED", 3600.0)
    stage.behaviour = lambda _request: asyncio.Event().wait()
    running = asyncio.create_task(stage.run())
    while not stage.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    stage.database.state = "restarting"
    await stage.context.heartbeat_once()
    assert await running == Result(Outcome.STOPPED)


async def test_a_worker_that_was_given_up_sees_that_it_lost_its_caller(stage: Stage) -> None:
    closed = asyncio.Event()

    async def until_closed(request: web.Request, _response: web.StreamResponse) -> None:
        await _closed(request)
        closed.set()
        stage.database.state = "success"  # which it reports by itself

    stage.answers(STARTED, then=until_closed)
    call = stage.call()
    running = asyncio.create_task(call.run())
    while not call.is_listening:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    call.give_up()
    assert await running == Result(Outcome.SETTLED)
    assert closed.is_set()


def _problem(status: int, title: str = "Title", detail: str = "detail") -> Callable[[web.Request], Any]:
    async def behave(_request: web.Request) -> web.Response:
        body = json.dumps({"title": title, "status": status, "detail": detail}).encode()
        return web.Response(status=status, body=body, content_type="application/problem+json")

    return behave


@pytest.mark.parametrize(
    "refusal",
    [
        _problem(503),
        _problem(429),
        _problem(401, detail="The request's signature is refused: Signature has expired."),
        _problem(401, detail="The request's signature is refused: Signature verification failed."),
    ],
)
async def test_what_surely_did_not_start_is_sent_again(stage: Stage, refusal: Any) -> None:
    stage.answers(STARTED, success(0), finished(1))
    stage.first(refusal, times=2)
    assert await stage.run() == Result(Outcome.SETTLED)
    assert len(stage.requests) == 3


async def test_a_full_service_is_waited_for_without_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "_LAST_DELAY", 0.1)
    stage.answers(STARTED, success(0), finished(1))
    good = stage.behaviour
    stage.behaviour = _problem(503, detail="All 1 slots are taken.")
    running = asyncio.create_task(stage.run())
    await asyncio.sleep(stage.context.settings.dispatch_retry_timeout + 0.5)
    assert not running.done()
    stage.behaviour = good
    assert await running == Result(Outcome.SETTLED)


@pytest.fixture
def held(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As a service behaves that gets no worker: it holds a request for its timeout, which is beyond the patience."""
    monkeypatch.setattr(waiting_module, "_LAST_DELAY", 0.05)
    stage.context.settings = dataclasses.replace(stage.context.settings, dispatch_retry_timeout=0.3)
    endpoints: Any = stage.context.endpoints
    endpoints.endpoint = endpoints.endpoint.model_copy(update={"timeout": 0.4})

    async def hold(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.4)
        return web.Response(status=504, text="activator request timeout")

    stage.answers(STARTED, success(0), finished(1))
    return hold


async def test_a_service_that_never_starts_is_not_waited_for_without_end(stage: Stage, held: Any) -> None:
    stage.behaviour = held
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "activator request timeout" in str(result.reason)
    assert "It has held requests for" in str(result.reason)
    assert "and no worker of it took one" in str(result.reason)
    assert len(stage.requests) <= 2


async def test_a_service_that_starts_slowly_may_hold_a_request_for_its_timeout(stage: Stage, held: Any) -> None:
    endpoints: Any = stage.context.endpoints
    endpoints.endpoint = endpoints.endpoint.model_copy(update={"timeout": 60.0})
    stage.first(held, times=1)
    assert await stage.run() == Result(Outcome.SETTLED)
    assert len(stage.requests) == 2
    assert "activator request timeout No worker has claimed the request. Trying again." in stage.log


async def test_a_full_service_that_holds_requests_is_waited_for_without_end(stage: Stage, held: Any) -> None:
    stage.database.serving = True
    stage.first(held, times=4)
    assert await stage.run() == Result(Outcome.SETTLED)
    assert stage.log.count("Trying again") == 4  # each of which was long


async def test_a_database_that_is_slow_costs_no_patience(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    start = stage.database.start

    def slowly(*args: Any, **kwargs: Any) -> TaskRequest:
        time.sleep(0.9)
        return start(*args, **kwargs)

    monkeypatch.setattr(stage.database, "start", slowly)
    stage.answers(STARTED, success(0), finished(1))
    stage.first(_plain(502), times=4)  # with as many new starts, longer than the patience
    assert await stage.run() == Result(Outcome.SETTLED)


@pytest.mark.parametrize("status", [400, 404, 413, 500])
async def test_a_workers_refusal_is_final(stage: Stage, status: int) -> None:
    stage.behaviour = _problem(status, detail="This worker says no.")
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert f"answered {status}: This worker says no." in str(result.reason)
    assert len(stage.requests) == 1


async def _break_off(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()  # type: ignore[attr-defined]
    return web.Response()


def _plain(status: int) -> Callable[[web.Request], Any]:
    async def behave(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="upstream connect error or disconnect/reset: connection termination")

    return behave


MAYBE = {
    **{str(status): _plain(status) for status in (500, 502, 503, 504, 302)},
    "broken off": _break_off,
    "taken before": _problem(409),
    "worker went away": _problem(502, title="Worker went away"),
}


@pytest.mark.parametrize("behaviour", MAYBE.values(), ids=MAYBE.keys())
@pytest.mark.parametrize("how", ["unasked", "claimed"])
async def test_what_may_have_started_is_never_sent_again(stage: Stage, behaviour: Any, how: str) -> None:
    """Neither a request that may be started unasked, nor one that a worker has claimed."""
    stage.database.claimed = how == "claimed"
    stage.context.promptness.expects = lambda _task, _revision: how == "unasked"  # type: ignore[method-assign]
    stage.behaviour = behaviour
    assert (await stage.run()).outcome is Outcome.FAILED
    assert [request["claim"] for request in stage.requests] == [how == "claimed"]


@pytest.mark.parametrize("behaviour", MAYBE.values(), ids=MAYBE.keys())
async def test_what_nobody_claimed_is_started_anew_behind_another_fence(stage: Stage, behaviour: Any) -> None:
    stage.answers(STARTED, success(0), finished(1))
    stage.first(behaviour, times=2)
    assert await stage.run() == Result(Outcome.SETTLED)
    fences = [request["fence"]["pid"] for request in stage.requests]
    assert len(set(fences)) == 3
    assert stage.database.owner_pid == fences[-1]
    assert all(request["claim"] for request in stage.requests)
    assert "No worker has claimed the request. Trying again." in stage.log


async def test_what_nobody_ever_claims_fails_with_that_reason(stage: Stage) -> None:
    stage.behaviour = _plain(502)
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "answered 502" in str(result.reason)
    assert "No worker has claimed the request" in str(result.reason)
    assert stage.database.owner_pid == 0


async def test_a_prompt_service_need_not_claim_until_it_is_full(stage: Stage) -> None:
    stage.answers(STARTED, success(0), finished(1))
    good = stage.behaviour
    await stage.run()
    stage.database.state = "queued"
    await stage.run()
    stage.database.state = "queued"

    async def behave(request: web.Request) -> Any:
        return await (_problem(503) if len(stage.requests) == 3 else good)(request)

    stage.behaviour = behave
    await stage.run()
    assert [request["claim"] for request in stage.requests] == [True, False, False, True]


@pytest.mark.parametrize("then", ["service-00002", None])
@pytest.mark.parametrize("late", [False, True], ids=["before the start", "before the request"])
async def test_what_goes_to_another_revision_has_to_be_claimed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, then: str | None, *, late: bool
) -> None:
    """It may have no pod yet, so that the request waits for one."""
    stage.answers(STARTED, success(0), finished(1))
    endpoints = stage.context.endpoints
    endpoint = endpoints.find("d", "t")
    await stage.run()
    stage.database.state = "queued"
    changed = endpoint.model_copy(update={"revision": then})
    seen = iter([endpoint] if late else [])
    monkeypatch.setattr(endpoints, "find", lambda *_: next(seen, changed))
    await stage.run()
    assert [request["claim"] for request in stage.requests] == [True, True]
    assert stage.database.state == "success"


async def test_heartbeats_keep_a_request_held_until_it_is_claimed(stage: Stage) -> None:
    go_on = asyncio.Event()
    stage.answers(STARTED, success(0), finished(1))
    good = stage.behaviour

    async def behave(request: web.Request) -> Any:
        await go_on.wait()
        return await good(request)

    stage.behaviour = behave
    call = stage.call()
    running = asyncio.create_task(call.run())
    while not stage.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    first = _held(call)
    await stage.context.heartbeat_once()
    second = _held(call)
    assert first is not None
    assert second is not None
    assert second > first
    stage.database.claimed = True
    await stage.context.heartbeat_once()
    assert _held(call) is None
    go_on.set()
    assert await running == Result(Outcome.SETTLED)


def _held(call: Call) -> datetime | None:
    assert call.beat is not None
    return call.beat.held


async def test_a_heartbeat_during_a_new_start_takes_no_task_instance_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed, go_on = threading.Event(), threading.Event()
    start = stage.database.start

    def slowly(*args: Any, **kwargs: Any) -> TaskRequest:
        request = start(*args, **kwargs)
        if stage.requests:
            committed.set()
            go_on.wait(10)
        return request

    monkeypatch.setattr(stage.database, "start", slowly)
    stage.answers(STARTED, success(0), finished(1))
    stage.first(_plain(502), times=1)
    running = asyncio.create_task(stage.run())
    await asyncio.to_thread(committed.wait, 10)
    await stage.context.heartbeat_once()  # another fence stands there than the call knows of
    go_on.set()
    assert await running == Result(Outcome.SETTLED)
    assert stage.database.state == "success"
    assert len(stage.requests) == 2


@pytest.mark.parametrize("change", ["start", "hold"])
async def test_what_a_heartbeat_goes_by_changes_only_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Else the old heartbeat, late, would count as one behind the new fence, or as the claim of what is held."""
    under_way, go_on = threading.Event(), threading.Event()
    heartbeat = stage.database.heartbeat

    def slowly(beats: list[Beat]) -> Any:
        under_way.set()
        go_on.wait(10)
        return heartbeat(beats)

    changes: list[bool] = []
    changing = getattr(stage.database, change)
    monkeypatch.setattr(
        stage.database, change, lambda *args, **kwargs: (changes.append(go_on.is_set()), changing(*args, **kwargs))[1]
    )
    monkeypatch.setattr(stage.database, "heartbeat", slowly)
    stage.context.promptness.expects = lambda *_: change == "hold"  # type: ignore[method-assign]
    stage.answers(STARTED, success(0), finished(1))
    fail = _plain(502) if change == "start" else _problem(503)
    beats: list[asyncio.Task[None]] = []

    async def beat_and_fail(request: web.Request) -> Any:
        changes.clear()
        beats.append(asyncio.create_task(stage.context.heartbeat_once()))
        await asyncio.to_thread(under_way.wait, 10)
        return await fail(request)

    stage.first(beat_and_fail, times=1)
    running = asyncio.create_task(stage.run())
    while not beats:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    go_on.set()
    assert await running == Result(Outcome.SETTLED)
    await beats[0]
    assert changes == [True]


async def test_what_runs_behind_another_fence_is_followed_to_its_end(stage: Stage) -> None:
    stage.answers(STARTED, then=lambda *_: asyncio.Event().wait())
    running = asyncio.create_task(stage.run())
    while stage.database.state != "running":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    stage.database.owner_pid = 99
    for _ in range(8):
        await stage.context.heartbeat_once()
        stage.database.last_heartbeat = datetime.now(UTC)  # of whoever runs it
        await asyncio.sleep(0.1)
    assert not running.done()
    stage.database.state = "success"
    assert await running == Result(Outcome.SETTLED)


async def test_a_database_that_is_away_costs_nothing_but_time(stage: Stage) -> None:
    stage.database.away = 3

    async def go_away(_request: web.Request, response: web.StreamResponse) -> None:
        stage.database.away = 3
        await response.write(XCOM + success(1) + finished(2))

    stage.answers(STARTED, then=go_away)
    assert await stage.run() == Result(Outcome.SETTLED)
    assert [write.seq for write in stage.database.applied] == [0, 1]


class TooLargeError(Exception):
    """As psycopg2 has it, which counts it among operational errors."""

    pgcode = "54000"  # program_limit_exceeded


@pytest.mark.parametrize(
    "error",
    [
        ProgrammingError("SELECT 1", {}, Exception("no such column")),
        OperationalError("SELECT 1", {}, TooLargeError("no such column fits an index")),
    ],
)
async def test_an_error_of_the_database_that_stays_fails_the_task(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise error

    monkeypatch.setattr(stage.database, "apply", refuse)
    stage.answers(STARTED, success(0), finished(1))
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "no such column" in str(result.reason)


async def test_what_nobody_expected_fails_the_task_and_stands_in_its_log(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(stage.database, "apply", refuse)
    stage.answers(STARTED, success(0), finished(1))
    assert (await stage.run()).outcome is Outcome.FAILED
    assert "nobody expected this" in stage.log
    assert stage.database.owner_pid == 0


async def test_a_paused_dispatcher_reads_what_came_meanwhile_before_it_gives_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def wait(_request: web.Request, response: web.StreamResponse) -> None:
        await go_on.wait()
        await response.write(success(0) + finished(1))

    stage.answers(STARTED, then=wait)
    call = stage.call()
    running = asyncio.create_task(call.run())
    while not call.is_listening:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    call.last_heard -= 3600
    stage.context._last_beat -= 3600
    await stage.context.heartbeat_once()
    go_on.set()
    assert await running == Result(Outcome.SETTLED)


async def test_a_service_that_comes_late_is_waited_for(stage: Stage) -> None:
    stage.answers(STARTED, success(0), finished(1))
    endpoints: Any = stage.context.endpoints
    endpoint, endpoints.endpoint = endpoints.endpoint, None
    running = asyncio.create_task(stage.run())
    await asyncio.sleep(0.3)
    assert not running.done()
    endpoints.endpoint = endpoint
    assert await running == Result(Outcome.SETTLED)


async def test_a_service_that_never_comes_fails_the_task_with_that_reason(stage: Stage) -> None:
    endpoints: Any = stage.context.endpoints
    endpoints.endpoint = None
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "No Knative Service for task 't' of DAG 'd'" in str(result.reason)


async def test_a_service_that_refuses_connections_fails_the_task_with_that_reason(stage: Stage) -> None:
    endpoints: Any = stage.context.endpoints
    endpoints.endpoint = endpoints.endpoint.model_copy(update={"url": "http://127.0.0.1:9"})
    result = await stage.run()
    assert result.outcome is Outcome.FAILED
    assert "cannot be reached at http://127.0.0.1:9" in str(result.reason)


async def test_a_call_again_starts_anew_what_nobody_claimed(stage: Stage) -> None:
    stage.database.state = "running"
    stage.database.owner_pid = 99
    stage.database.held = datetime.now(UTC)
    stage.answers(STARTED, success(0), finished(1))
    assert await asyncio.wait_for(stage.call(again=True).run(), 30) == Result(Outcome.SETTLED)
    assert stage.database.state == "success"
    assert len(stage.requests) == 1


async def test_a_call_again_follows_what_its_predecessor_started(stage: Stage) -> None:
    stage.database.state = "running"
    stage.database.owner_pid = 99
    stage.database.last_heartbeat = datetime.now(UTC)
    result = await asyncio.wait_for(stage.call(again=True).run(), 30)
    assert result.outcome is Outcome.FAILED  # its worker never reported
    assert result.reason
    assert json.loads(stage.log.splitlines()[-1])["event"] == result.reason
    assert stage.requests == []


async def test_a_missed_variable_is_sent_along_the_next_time(stage: Stage) -> None:
    stage.answers(STARTED, encode_record(Missed(path="/variables/v")), success(0), finished(1))
    await stage.run()
    assert stage.context.learned.declared("d", "t", {}).variables == {"v"}
    assert stage.context.learned.declared("d", "other", {}).variables == set()


async def test_an_idle_context_has_no_heartbeats(stage: Stage) -> None:
    stage.answers(STARTED, success(0), finished(1))
    await stage.run()
    assert stage.context.beating == {}
    await stage.context.heartbeat_once()
