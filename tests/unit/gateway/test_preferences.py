from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_knative.gateway.preferences import Preferences, parse_prefer

if TYPE_CHECKING:
    import httpx

    from .conftest import Check, Connect
    from .fake_airflow import FakeAirflow


@pytest.mark.parametrize(
    ("values", "preferences"),
    [
        ([], Preferences(respond_async=False, wait=None)),
        (["respond-async"], Preferences(respond_async=True, wait=None)),
        (["wait=10"], Preferences(respond_async=False, wait=10)),
        (["Respond-Async, WAIT=5"], Preferences(respond_async=True, wait=5)),
        (["respond-async", "wait = 5"], Preferences(respond_async=True, wait=5)),
        (['wait="7"; x=y, handling=lenient'], Preferences(respond_async=False, wait=7)),
        (["wait=1, wait=2"], Preferences(respond_async=False, wait=1)),
        (["wait=0"], Preferences(respond_async=False, wait=0)),
        (["wait=-1"], Preferences(respond_async=False, wait=None)),
        (["wait=1.5, wait=x, wait=, ,;"], Preferences(respond_async=False, wait=None)),
        (["wait=9999999999"], Preferences(respond_async=False, wait=None)),
    ],
)
def test_the_header_is_read_as_rfc_7240_says(values: list[str], preferences: Preferences) -> None:
    assert parse_prefer(values) == preferences


@pytest.mark.asyncio
async def test_respond_async_answers_before_the_run_has_ended(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    response = await client.post("/runWorkflow/slow", json={"input": [1]}, headers={"prefer": "respond-async"})
    ((_, run_id),) = airflow.runs
    assert response.status_code == 202
    assert response.headers["location"] == f"/runs/slow/{run_id}"
    assert response.headers["preference-applied"] == "respond-async"
    assert response.json() == {
        "dag_id": "slow", "run_id": run_id, "state": "queued", "location": f"/runs/slow/{run_id}"
    }  # fmt: skip
    assert not airflow.intervals


@pytest.mark.asyncio
async def test_respond_async_with_a_wait_that_is_long_enough(client: httpx.AsyncClient) -> None:
    headers = {"prefer": "respond-async, wait=10"}
    response = await client.post("/runWorkflow/avg", json={"input": [1]}, headers=headers)
    assert (response.status_code, response.json()) == (200, {"output": 1.0})
    assert response.headers["preference-applied"] == "respond-async, wait=10"


@pytest.mark.asyncio
async def test_respond_async_with_a_wait_that_is_too_short(client: httpx.AsyncClient) -> None:
    headers = {"prefer": "respond-async, wait=0"}
    response = await client.post("/runWorkflow/slow", json={"input": [1]}, headers=headers)
    assert response.status_code == 202
    assert (await client.get(response.headers["location"])).json()["state"] == "running"


@pytest.mark.asyncio
async def test_a_wait_that_is_too_short(client: httpx.AsyncClient, problem: Check) -> None:
    response = await client.post("/runWorkflow/slow", json={"input": [1]}, headers={"prefer": "wait=0"})
    document = problem(response, 504, "wait-ended")
    assert response.headers["airflow-run-id"] == document["run_id"]


@pytest.mark.asyncio
async def test_a_wait_over_the_limit_is_cut_to_it(connect: Connect, problem: Check) -> None:
    client = await connect(wait_timeout=1)
    async with asyncio.timeout(10):
        response = await client.post("/runWorkflow/slow", json={"input": [1]}, headers={"prefer": "wait=1000"})
    problem(response, 504, "wait-ended")
    assert response.headers["preference-applied"] == "wait=1"
