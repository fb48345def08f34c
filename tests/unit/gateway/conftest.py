from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio

from airflow_knative.gateway.app import Gateway, create_app
from airflow_knative.gateway.settings import Settings

from .fake_airflow import FakeAirflow, FakeDag, Mapped, Outcome

ADMIN = ("admin", "admin")
VIEWER = ("viewer", "viewer")


def average(data: Any) -> Outcome:
    return Outcome(returned="do_avg", values={"do_avg": sum(data) / len(data)})


def failing(_data: Any) -> Outcome:
    error = {"exc_type": "ValueError", "exc_value": "bad input 'x'"}
    return Outcome(
        state="failed",
        failed=[
            {"task_id": "after", "map_index": -1, "state": "upstream_failed", "try_number": 0},
            {"task_id": "boom", "map_index": -1, "state": "failed", "try_number": 2},
        ],
        logs={
            ("boom", 2, -1): [
                {"timestamp": None, "event": "::group::Log message source details"},
                {"event": "first", "level": "error"},
                {"event": "Task failed with exception", "level": "error", "error_detail": [error]},
                {"event": "goodbye", "level": "info"},
            ]
        },
    )


def echoing(task: str) -> Callable[[Any], Outcome]:
    return lambda data: Outcome(values={task: data} if data is not None else {})


@pytest_asyncio.fixture
async def airflow() -> AsyncIterator[FakeAirflow]:
    fake = FakeAirflow()
    fake.dags = {
        "avg": FakeDag(average),
        "fails": FakeDag(failing, downstream={"boom": ["after"], "after": []}),
        "leaf": FakeDag(echoing("last"), downstream={"first": ["last"], "last": []}),
        "slow": FakeDag(average, duration=30),
        "paused": FakeDag(average, paused=True),
        "mapped": FakeDag(
            lambda data: Outcome(
                values={"square": Mapped({i: x * x for i, x in enumerate(data) if x is not None})},
                instances={"square": len(data)},
            ),
            downstream={"read": ["square"], "square": []},
            mapped={"square"},
        ),
    }
    await fake.start()
    yield fake
    await fake.stop()


Connect = Callable[..., Awaitable[httpx.AsyncClient]]
Check = Callable[[httpx.Response, int, str], dict[str, Any]]


@pytest_asyncio.fixture
async def connect(airflow: FakeAirflow) -> AsyncIterator[Connect]:
    """Start a gateway with these settings and return a client of it; its `gateway` is the gateway itself."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> httpx.AsyncClient:
            chosen = Settings.model_validate({"airflow_url": airflow.url, "wait_timeout": 20} | settings)
            gateway = Gateway(chosen)
            await stack.enter_async_context(gateway.lifespan())
            transport = httpx.ASGITransport(create_app(chosen, gateway), raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://gateway", auth=ADMIN)
            client.gateway = gateway  # type: ignore[attr-defined]
            return await stack.enter_async_context(client)

        yield start


@pytest_asyncio.fixture
async def client(connect: Connect) -> httpx.AsyncClient:
    return await connect()


@pytest.fixture
def problem() -> Check:
    """Check that an answer is this problem document, and return it."""

    def check(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
        document: dict[str, Any] = response.json()
        assert (response.status_code, document.get("type")) == (status, f"urn:airflow-knative:problem:{kind}"), document
        assert response.headers["content-type"] == "application/problem+json"
        assert document["status"] == status
        assert document["title"]
        assert document["detail"]
        return document

    return check
