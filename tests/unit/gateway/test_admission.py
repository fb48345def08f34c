"""Nothing is read of callers whom Airflow does not know, and only so many are looked after at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx
    from aiohttp import web

    from .conftest import Check, Connect
    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("authorization", ["Basic YWRtaW46d3Jvbmc=", "Bearer x.y.z"])
async def test_nothing_is_read_of_those_whom_airflow_does_not_know(
    client: httpx.AsyncClient, authorization: str, *, is_warm: bool
) -> None:
    if is_warm:
        assert (await client.post("/runWorkflow/avg", json={"input": [1]})).status_code == 200
    status, is_read = await _call(client, authorization)
    assert (status, is_read) == (401, False)


async def test_a_token_is_asked_about_once(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]})
    token = f"Bearer {airflow.issue(airflow.users['admin'])}"
    asked = []
    for _ in range(3):
        airflow.requests.clear()
        assert await _call(client, token) == (200, True)
        asked.append(len(airflow.requests))
    assert asked == [3, 2, 2]
    airflow.take_tokens = False
    assert (await _call(client, token))[0] == 401
    assert await _call(client, token) == (401, False)


async def test_to_ask_about_a_token_is_to_look_at_the_workflow(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    token = f"Bearer {airflow.issue(airflow.users['admin'])}"
    airflow.requests.clear()
    assert await _call(client, token) == (200, True)
    assert len(airflow.requests) == 3


async def _call(client: httpx.AsyncClient, authorization: str) -> tuple[int, bool]:
    """Make a call over ASGI itself, since httpx reads bodies by itself. Return its status, and if its body was read."""
    body = json.dumps({"input": [1]}).encode()
    headers = {"content-type": "application/json", "authorization": authorization, "content-length": str(len(body))}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/runWorkflow/avg",
        "raw_path": b"/runWorkflow/avg",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    statuses = []
    is_read = False

    async def receive() -> dict[str, Any]:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await client._transport.app(scope, receive, send)  # type: ignore[attr-defined]
    return statuses[0], is_read


async def test_more_looks_at_runs_than_the_gateway_takes(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(max_concurrency=1)
    started = await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"prefer": "respond-async"})
    where, go_on, is_held = started.headers["location"], asyncio.Event(), asyncio.Event()

    async def hold(_request: web.Request) -> None:
        is_held.set()
        await go_on.wait()

    airflow.overrides[where.rsplit("/", 1)[1]] = hold
    first = asyncio.create_task(client.get(where))
    await is_held.wait()
    response = await client.get(where)
    problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"
    go_on.set()
    assert (await first).status_code == 200
    assert (await client.get(where)).status_code == 200
