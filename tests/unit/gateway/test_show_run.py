from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import VIEWER, Check, Connect
from .fake_airflow import FakeAirflow, FakeRun, Outcome

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.asyncio


async def started(client: httpx.AsyncClient, dag_id: str, data: Any) -> str:
    response = await client.post(f"/runWorkflow/{dag_id}", json={"input": data}, headers={"prefer": "respond-async"})
    return response.headers["location"]


async def test_a_run_that_has_succeeded(client: httpx.AsyncClient) -> None:
    where = await started(client, "avg", [1, 2])
    response = await client.get(where)
    run_id = where.rsplit("/", 1)[-1]
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {
        "dag_id": "avg",
        "run_id": run_id,
        "state": "success",
        "start_date": "2026-01-02T03:04:05.678901Z",
        "end_date": "2026-01-02T03:04:06.678901Z",
        "output": 1.5,
    }


async def test_a_run_that_has_failed(client: httpx.AsyncClient) -> None:
    shown = (await client.get(await started(client, "fails", 1))).json()
    assert shown["state"] == "failed"
    assert "output" not in shown
    assert shown["failed_tasks"][0]["error"] == "ValueError: bad input 'x'"
    assert "bad input" in shown["detail"]


async def test_a_run_that_has_not_ended(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    shown = (await client.get(await started(client, "slow", [1]))).json()
    assert (shown["state"], shown["end_date"]) == ("running", None)
    assert "output" not in shown
    assert not airflow.intervals


async def test_runs_that_airflow_named_itself(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    run_id = "manual__2026-01-02T03:04:05.678901+00:00"
    airflow.runs["avg", run_id] = FakeRun("avg", run_id, {}, Outcome(returned="e", values={"e": 1}), 0)
    for quoted in (run_id, "manual__2026-01-02T03%3A04%3A05.678901%2B00%3A00"):
        assert (await client.get(f"http://gateway/runs/avg/{quoted}")).json()["output"] == 1


async def test_others_who_may_read_may_look(client: httpx.AsyncClient) -> None:
    where = await started(client, "avg", [1, 2])
    assert (await client.get(where, auth=VIEWER)).json()["output"] == 1.5


async def test_those_who_may_not_read_may_not(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    where = await started(client, "avg", [1, 2])
    airflow.users["viewer"].rights = frozenset()
    problem(await client.get(where, auth=VIEWER), 403, "forbidden")


async def test_an_unknown_run(client: httpx.AsyncClient, problem: Check) -> None:
    document = problem(await client.get("/runs/avg/nope"), 404, "unknown-run")
    assert (document["dag_id"], document["run_id"]) == ("avg", "nope")


@pytest.mark.parametrize("run_id", ["~", "%2e%2e", "a%2Fb", "a%0Ab", "x" * 251])
async def test_odd_run_ids_never_reach_airflow(client: httpx.AsyncClient, airflow: FakeAirflow, run_id: str) -> None:
    response = await client.get(f"http://gateway/runs/avg/{run_id}")
    assert response.status_code == 404
    assert airflow.requests == []


async def test_looking_at_a_run_takes_no_place_of_a_call(connect: Connect, airflow: FakeAirflow) -> None:
    client = await connect(max_concurrency=1)
    call = asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [1]}))
    await airflow.until(lambda: airflow.runs)
    ((_, run_id),) = airflow.runs
    assert (await client.get(f"/runs/slow/{run_id}")).status_code == 200
    airflow.runs["slow", run_id].ends = 0
    assert (await call).status_code == 200
