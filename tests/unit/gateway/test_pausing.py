from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_knative.gateway import runs

from .fake_airflow import FakeAirflow, User

if TYPE_CHECKING:
    import httpx

    from .conftest import Check, Connect

pytestmark = pytest.mark.asyncio


async def test_a_paused_workflow_is_unpaused_and_no_other(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.dags["slow"].paused = True
    assert (await client.post("/runWorkflow/paused", json={"input": [3]})).json() == {"output": 3.0}
    assert not airflow.dags["paused"].paused
    assert airflow.dags["slow"].paused


async def test_a_workflow_that_runs_is_not_patched(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    await client.post("/runWorkflow/avg", json={"input": [3]})
    assert not any(request.startswith("PATCH") for request in airflow.requests)


async def test_the_setting_does_not_allow_it(connect: Connect, airflow: FakeAirflow, problem: Check) -> None:
    client = await connect(unpause=False)
    document = problem(await client.post("/runWorkflow/paused", json={"input": [3]}), 409, "workflow-paused")
    assert "UNPAUSE" in document["detail"]
    assert airflow.dags["paused"].paused
    assert not airflow.runs


async def test_the_caller_may_not(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    airflow.users["runner"] = User(9, "runner", frozenset({"read", "run", "xcom"}))
    response = await client.post("/runWorkflow/paused", json={"input": [3]}, auth=("runner", "runner"))
    problem(response, 409, "workflow-paused")
    assert airflow.dags["paused"].paused
    assert not airflow.runs


async def test_a_workflow_is_looked_at_again_after_a_while(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(unpause=False, unpaused_ttl=0)
    await client.post("/runWorkflow/avg", json={"input": [3]})
    airflow.dags["avg"].paused = True
    problem(await client.post("/runWorkflow/avg", json={"input": [3]}), 409, "workflow-paused")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_SUSPICIOUS", 0.0)
    monkeypatch.setattr("airflow_knative.gateway.pace._FIRST_LEASE", 0.02)


async def test_a_workflow_that_was_paused_behind_the_gateway_is_unpaused(
    client: httpx.AsyncClient, airflow: FakeAirflow, impatient: None
) -> None:
    await client.post("/runWorkflow/avg", json={"input": [3]})
    airflow.dags["avg"].paused = True
    assert (await client.post("/runWorkflow/avg", json={"input": [4]})).json() == {"output": 4.0}


async def test_a_workflow_that_was_paused_behind_the_gateway_ends_the_wait(
    connect: Connect, airflow: FakeAirflow, impatient: None, problem: Check
) -> None:
    client = await connect(unpause=False)
    await client.post("/runWorkflow/avg", json={"input": [3]})
    airflow.dags["avg"].paused = True
    async with asyncio.timeout(10):
        response = await client.post("/runWorkflow/avg", json={"input": [4]})
    document = problem(response, 409, "workflow-paused")
    assert ("avg", document["run_id"]) in airflow.runs
