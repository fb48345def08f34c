from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from starlette.requests import ClientDisconnect

from airflow_knative.gateway import patience
from airflow_knative.gateway.airflow import UnavailableError
from airflow_knative.gateway.deadlines import Deadlines
from airflow_knative.gateway.patience import Patience

if TYPE_CHECKING:
    from .conftest import Check, Connect
    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.02)


class Away:
    """An operation that fails this often."""

    def __init__(self, times: float, error: Exception | None = None) -> None:
        self.times = times
        self.calls = 0
        self.error = error or UnavailableError("away", again=True)

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


async def test_an_operation_is_carried_out_once_if_it_succeeds() -> None:
    operation = Away(0)
    assert await Patience(60, Deadlines()).see_out(operation) == "done"
    assert operation.calls == 1


async def test_it_is_taken_up_again_until_it_succeeds() -> None:
    operation = Away(20)
    assert await Patience(60, Deadlines()).see_out(operation) == "done"
    assert operation.calls == 21


async def test_what_another_try_does_not_mend_is_not_tried_again() -> None:
    for error in (UnavailableError("slow", sent=True), ValueError("other")):
        operation = Away(9, error)
        with pytest.raises(type(error)):
            await Patience(60, Deadlines()).see_out(operation)
        assert operation.calls == 1


async def test_it_ends_with_the_last_error_when_it_is_used_up() -> None:
    operation = Away(float("inf"))
    with pytest.raises(UnavailableError, match="away"):
        await Patience(0.1, Deadlines()).see_out(operation)
    assert operation.calls > 1


async def test_none_is_possible() -> None:
    operation = Away(1)
    with pytest.raises(UnavailableError):
        await Patience(0, Deadlines()).see_out(operation)
    assert operation.calls == 1


async def test_it_ends_with_the_limit_of_the_call() -> None:
    until = asyncio.get_running_loop().time() + 0.1
    with pytest.raises(UnavailableError):
        await Patience(3600, Deadlines(), until=until).see_out(Away(float("inf")))


async def test_it_ends_with_the_process() -> None:
    deadlines = Deadlines()
    waiting = asyncio.create_task(Patience(3600, deadlines).see_out(Away(float("inf"))))
    await asyncio.sleep(0)
    deadlines.drain(0.1)
    with pytest.raises(UnavailableError):
        await waiting


async def test_it_ends_when_the_caller_hangs_up() -> None:
    async def hung_up() -> bool:
        return True

    operation = Away(1)
    with pytest.raises(ClientDisconnect):
        await Patience(60, Deadlines(), hung_up=hung_up).see_out(operation)
    assert operation.calls == 1


async def test_pauses_grow_up_to_a_limit_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 2.0)
    pauses = patience._pauses()
    first = [next(pauses) for _ in range(40)]
    assert 0.025 <= first[0] <= 0.05
    assert 0.4 <= first[4] <= 0.8
    assert all(1 <= pause <= 2 for pause in first[6:])
    assert len(set(first)) == len(first)


class Outage:
    """Nobody listens where Airflow's API server was, until that is."""

    def __init__(self, airflow: FakeAirflow) -> None:
        self._airflow = airflow
        self._port = int(airflow.url.rsplit(":", 1)[1])

    async def begin(self) -> None:
        await self._airflow.stop()

    async def end(self) -> None:
        await self._airflow.start(self._port)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Whether the gateway has tried once more in vain."""
    happened = asyncio.Event()
    original = Patience.see_out

    async def see_out(self: Patience, operation: Any) -> Any:
        async def noted() -> Any:
            try:
                return await operation()
            except UnavailableError:
                happened.set()
                raise

        return await original(self, noted)

    monkeypatch.setattr(Patience, "see_out", see_out)
    return happened


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "order-17"}])
async def test_a_call_that_finds_airflow_away_waits_for_it(
    connect: Connect, airflow: FakeAirflow, refused: asyncio.Event, headers: dict[str, str]
) -> None:
    client, outage = await connect(), Outage(airflow)
    await outage.begin()
    call = asyncio.create_task(client.post("/runWorkflow/avg", json={"input": [1, 2]}, headers=headers))
    await refused.wait()
    await outage.end()
    response = await call
    assert response.json() == {"output": 1.5}
    assert "idempotency-replayed" not in response.headers
    assert len(airflow.runs) == 1


@pytest.mark.parametrize("path", ["token", "avg", "dagRuns", "wait"])
async def test_airflow_goes_at_any_step_of_a_call_and_comes_back(
    connect: Connect, airflow: FakeAirflow, refused: asyncio.Event, path: str
) -> None:
    client, outage = await connect(), Outage(airflow)
    gone = asyncio.Event()

    async def go(_request: web.Request) -> None:
        del airflow.overrides[path]
        gone.set()
        await asyncio.Event().wait()

    airflow.overrides[path] = go
    call = asyncio.create_task(client.post("/runWorkflow/avg", json={"input": [1, 2]}))
    await gone.wait()
    await outage.begin()
    await refused.wait()
    await outage.end()
    assert (await call).json() == {"output": 1.5}
    assert len(airflow.runs) == 1


async def test_airflow_goes_after_it_has_started_the_run(
    connect: Connect, airflow: FakeAirflow, refused: asyncio.Event
) -> None:
    client, outage = await connect(), Outage(airflow)

    async def start(request: web.Request) -> None:
        del airflow.overrides["dagRuns"]
        await airflow._trigger(request)
        await asyncio.Event().wait()

    airflow.overrides["dagRuns"] = start
    call = asyncio.create_task(client.post("/runWorkflow/avg", json={"input": [1, 2]}))
    await airflow.until(lambda: airflow.runs)
    await outage.begin()
    await refused.wait()
    await outage.end()
    assert (await call).json() == {"output": 1.5}
    assert len(airflow.runs) == 1


@pytest.mark.parametrize("path", ["token", "avg", "dagRuns", "wait"])
async def test_airflow_loses_its_database_and_has_it_back(
    connect: Connect, airflow: FakeAirflow, refused: asyncio.Event, path: str
) -> None:
    client = await connect()
    airflow.database = False

    def lost(_request: web.Request) -> web.Response | None:
        return None if airflow.database else web.Response(status=500, text="Internal Server Error")

    airflow.overrides[path] = lost
    call = asyncio.create_task(client.post("/runWorkflow/avg", json={"input": [1, 2]}))
    await refused.wait()
    airflow.database = True
    assert (await call).json() == {"output": 1.5}
    assert len(airflow.runs) == 1


async def test_an_airflow_without_a_database_is_away(connect: Connect, airflow: FakeAirflow, problem: Check) -> None:
    client = await connect(airflow_patience=0.1)
    airflow.database = False
    airflow.overrides["dagRuns"] = lambda _: web.Response(status=500, text="Internal Server Error")
    response = await client.post("/runWorkflow/avg", json={"input": [1]})
    assert "lost its database" in problem(response, 503, "airflow-unavailable")["detail"]
    assert response.headers["retry-after"] == "1"


async def test_a_run_is_shown_when_airflow_is_back(
    connect: Connect, airflow: FakeAirflow, refused: asyncio.Event
) -> None:
    client, outage = await connect(), Outage(airflow)
    started = await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"prefer": "respond-async"})
    await outage.begin()
    call = asyncio.create_task(client.get(started.headers["location"]))
    await refused.wait()
    await outage.end()
    assert (await call).json()["output"] == 1.0


async def test_a_run_that_airflow_went_away_from_is_named(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client, outage = await connect(airflow_patience=0.1), Outage(airflow)
    call = asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [1]}))
    await airflow.until(lambda: airflow.intervals)
    await outage.begin()
    response = await call
    assert ("slow", problem(response, 503, "airflow-unavailable")["run_id"]) in airflow.runs
    assert response.headers["retry-after"] == "1"


async def test_a_run_that_may_have_been_started_is_named(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client, outage = await connect(airflow_patience=0.1), Outage(airflow)

    async def start(request: web.Request) -> None:
        await airflow._trigger(request)
        await asyncio.Event().wait()

    airflow.overrides["dagRuns"] = start
    call = asyncio.create_task(client.post("/runWorkflow/avg", json={"input": [1]}))
    await airflow.until(lambda: airflow.runs)
    await outage.begin()
    # The last tries never reached Airflow, but the first one did.
    assert ("avg", problem(await call, 503, "airflow-unavailable")["run_id"]) in airflow.runs


async def test_a_caller_who_does_not_wait_is_told_at_once(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(airflow_patience=3600)
    await Outage(airflow).begin()
    response = await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"prefer": "wait=0"})
    problem(response, 503, "airflow-unavailable")
