from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from .fake_airflow import FakeAirflow, User

if TYPE_CHECKING:
    import httpx

    from .conftest import Check, Connect

pytestmark = pytest.mark.asyncio

KEY = {"idempotency-key": "order-17"}


async def test_the_same_key_is_the_same_run(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    first = await client.post("/runWorkflow/avg", json={"input": [1, 2]}, headers=KEY)
    second = await client.post("/runWorkflow/avg", json={"input": [1, 2]}, headers=KEY)
    assert first.content == second.content == b'{"output":1.5}'
    assert first.headers["airflow-run-id"] == second.headers["airflow-run-id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(airflow.runs) == 1


async def test_it_holds_over_replicas_and_restarts(connect: Connect, airflow: FakeAirflow) -> None:
    one, other = await connect(), await connect()
    calls = [gateway.post("/runWorkflow/avg", json={"input": [1, 2]}, headers=KEY) for gateway in (one, other) * 3]
    assert {response.content for response in await asyncio.gather(*calls)} == {b'{"output":1.5}'}
    assert len(airflow.runs) == 1


async def test_it_attaches_to_a_run_that_has_not_ended(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    headers = KEY | {"prefer": "respond-async"}
    await client.post("/runWorkflow/slow", json={"input": [1, 3]}, headers=headers)
    call = asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [1, 3]}, headers=KEY))
    await airflow.until(lambda: airflow.intervals)
    next(iter(airflow.runs.values())).ends = 0
    assert (await call).json() == {"output": 2.0}
    assert len(airflow.runs) == 1


async def test_a_failed_run_stays_failed(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    for _ in range(2):
        problem(await client.post("/runWorkflow/fails", json={"input": 1}, headers=KEY), 422, "run-failed")
    assert len(airflow.runs) == 1


async def test_the_same_key_with_another_input(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1, 2]}, headers=KEY)
    response = await client.post("/runWorkflow/avg", json={"input": [1, 3]}, headers=KEY)
    document = problem(response, 422, "idempotency-key-reused")
    assert ("avg", document["run_id"]) in airflow.runs


async def test_numbers_that_the_database_writes_otherwise_are_the_same_input(
    client: httpx.AsyncClient, airflow: FakeAirflow
) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1e2]}, headers=KEY)
    next(iter(airflow.runs.values())).conf = {"data": [100]}
    response = await client.post("/runWorkflow/avg", json={"input": [1e2]}, headers=KEY)
    assert response.status_code == 200


async def test_keys_are_of_a_user_and_a_workflow(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.users["other"] = User(7, "other")
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers=KEY)
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers=KEY, auth=("other", "other"))
    await client.post("/runWorkflow/leaf", json={"input": [1]}, headers=KEY)
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"idempotency-key": "order-18"})
    assert len(airflow.runs) == 4


async def test_a_user_is_the_same_by_password_and_by_token(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    token = airflow.issue(airflow.users["admin"])
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers=KEY)
    bearer = KEY | {"authorization": f"Bearer {token}"}
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers=bearer, auth=lambda request: request)
    assert len(airflow.runs) == 1


async def test_quotes_around_a_key_do_not_count(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers=KEY)
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"idempotency-key": '"order-17"'})
    assert len(airflow.runs) == 1


async def test_run_ids_fit_airflow_and_do_not_show_the_key(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"idempotency-key": "k/../~" * 40})
    ((_, run_id),) = airflow.runs
    assert run_id.replace("_", "").isalnum()
    assert len(run_id) <= 250


@pytest.mark.parametrize("key", ["", " ", '""', "two words", "x" * 256, "ключ".encode()])
async def test_keys_that_are_refused(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check, key: Any) -> None:
    response = await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"idempotency-key": key})
    problem(response, 400, "malformed-request")
    assert not airflow.runs


async def test_two_keys_are_refused(client: httpx.AsyncClient, problem: Check) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}, headers=headers), 400, "malformed-request")
