from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_knative.gateway.deadlines import Deadlines
from airflow_knative.gateway.pace import Pace

if TYPE_CHECKING:
    import httpx

    from .conftest import Check
    from .fake_airflow import FakeAirflow


def test_the_interval_grows_with_the_age_of_the_run() -> None:
    pace = Pace(shortest=0.01, longest=2, rate=1000)
    intervals = [pace.interval(age) for age in (0, 0.1, 1, 10, 100)]
    assert intervals == [0.01, 0.01, 0.02, 0.2, 2]


def test_all_waits_share_the_rate() -> None:
    pace = Pace(shortest=0.01, longest=2, rate=100)
    pace.waiting = 50
    assert pace.interval(0) == 0.5
    pace.waiting = 1000
    assert pace.interval(0) == 10


def test_a_wait_is_renewed_as_often_as_the_age_doubles() -> None:
    pace = Pace(shortest=0.01, longest=2, rate=100)
    age, renewals = 0.0, 0
    while age < 3600:
        age += pace.lease(age)
        renewals += 1
    assert renewals < 20


def test_the_head_start_is_less_than_the_quickest_recent_run() -> None:
    pace = Pace(shortest=0.01, longest=2, rate=100)
    assert pace.head_start("avg") == 0
    for duration in (0.4, 0.3, 0.5):
        pace.learn("avg", duration)
    assert 0.1 < pace.head_start("avg") < 0.3
    assert pace.head_start("other") == 0
    pace.learn("avg", 0.001)
    assert pace.head_start("avg") == 0
    for _ in range(8):
        pace.learn("avg", 60)
    assert 0 < pace.head_start("avg") <= 1


def test_what_is_learnt_is_bounded() -> None:
    pace = Pace(shortest=0.01, longest=2, rate=100)
    for number in range(5000):
        pace.learn(f"dag{number}", 1)
    assert len(pace._durations) == 1000
    assert pace.head_start("dag4999") > 0


@pytest.mark.asyncio
async def test_long_runs_are_looked_at_less_and_less(
    client: httpx.AsyncClient, airflow: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_knative.gateway.pace._FIRST_LEASE", 0.05)
    airflow.dags["slow"].duration = 1.3
    assert (await client.post("/runWorkflow/slow", json={"input": [1]})).status_code == 200
    assert airflow.intervals == sorted(airflow.intervals)
    assert airflow.intervals[0] == 0.01
    assert airflow.intervals[-1] > 0.01


@pytest.mark.asyncio
async def test_the_second_run_is_first_looked_at_when_it_may_have_ended(
    client: httpx.AsyncClient, airflow: FakeAirflow
) -> None:
    airflow.dags["slow"].duration = 0.3
    await client.post("/runWorkflow/slow", json={"input": [1]})
    slept: list[float] = []
    original = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await original(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_knative.gateway.runs.asyncio.sleep", sleep)
        await client.post("/runWorkflow/slow", json={"input": [1]})
    assert max(slept) > 0.1


@pytest.mark.asyncio
async def test_no_wait_is_counted_when_all_have_ended(client: httpx.AsyncClient, problem: Check) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]})
    problem(
        await client.post("/runWorkflow/slow", json={"input": [1]}, headers={"prefer": "wait=0"}), 504, "wait-ended"
    )
    assert client.gateway.calls._runner._pace.waiting == 0


@pytest.mark.asyncio
async def test_draining_moves_deadlines_forward() -> None:
    deadlines = Deadlines()
    now = asyncio.get_running_loop().time()

    async def wait() -> str:
        try:
            async with deadlines.until(now + 1000):
                await asyncio.Event().wait()
        except TimeoutError:
            return "ended"
        return "?"

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    deadlines.drain(0.01)
    deadlines.drain(1000)  # a second signal gives no more time
    async with asyncio.timeout(10):
        assert await waiting == "ended"
        assert await wait() == "ended"
    assert not deadlines._active


@pytest.mark.asyncio
async def test_a_call_that_the_end_of_the_process_cuts_short_names_its_run(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    call = asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [1]}))
    await airflow.until(lambda: airflow.intervals)
    client.gateway.deadlines.drain(0.01)
    document = problem(await call, 503, "shutting-down")
    assert ("slow", document["run_id"]) in airflow.runs
