from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from airflow_knative.gateway import runs

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from .conftest import Check, Connect
    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_PAUSES", (0.01, 0.01))


def text(status: int, body: str = "<html>oops</html>") -> Callable[[web.Request], web.Response]:
    return lambda _: web.Response(status=status, text=body)


def drop(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def drop_first() -> Callable[[web.Request], web.Response | None]:
    dropped: list[web.Request] = []

    def answer(request: web.Request) -> web.Response | None:
        if not dropped:
            dropped.append(request)
            return drop(request)
        return None

    return answer


async def test_airflow_is_away(connect: Connect, problem: Check) -> None:
    client = await connect(airflow_url="http://127.0.0.1:1")
    for call in (client.post("/runWorkflow/avg", json={"input": [1]}), client.get("/runs/avg/x")):
        response = await call
        document = problem(response, 503, "airflow-unavailable")
        assert "http://127.0.0.1:1" in document["detail"]
        assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("path", "answer", "kind"),
    [
        ("token", (500, "boom"), (502, "airflow-error")),
        ("token", (201, "{}"), (502, "airflow-error")),
        ("token", (201, "[]"), (502, "airflow-error")),
        ("token", (503, "wait"), (503, "airflow-unavailable")),
        ("avg", (200, "<html>"), (502, "airflow-error")),
        ("avg", (200, "{}"), (502, "airflow-error")),
        ("avg", (302, ""), (502, "airflow-error")),
        ("dagRuns", (500, '{"detail":"Serious error"}'), (502, "airflow-error")),
        ("dagRuns", (200, "{}"), (502, "airflow-error")),
        ("dagRuns", (429, "slow down"), (503, "airflow-unavailable")),
        ("dagRuns", (418, '{"detail":[{"msg":"teapot"}]}'), (502, "airflow-error")),
        ("wait", (200, "nonsense\n"), (502, "airflow-error")),
        ("wait", (500, "boom"), (502, "airflow-error")),
        ("wait", (503, "boom"), (503, "airflow-unavailable")),
    ],
)
async def test_answers_that_cannot_be_used(
    client: httpx.AsyncClient,
    airflow: FakeAirflow,
    problem: Check,
    *,
    path: str,
    answer: tuple[int, str],
    kind: tuple[int, str],
) -> None:
    airflow.overrides[path] = text(*answer)
    document = problem(await client.post("/runWorkflow/avg", json={"input": [1]}), *kind)
    if path == "wait":
        assert ("avg", document["run_id"]) in airflow.runs


async def test_a_trigger_whose_connection_broke_is_sent_again(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.overrides["dagRuns"] = drop_first()
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}
    assert len(airflow.runs) == 1


async def test_a_trigger_whose_answer_was_lost_starts_no_second_run(
    client: httpx.AsyncClient, airflow: FakeAirflow
) -> None:
    lost: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response | None:
        if lost:
            return None
        lost.append(request)
        await airflow._trigger(request)
        return drop(request)

    airflow.overrides["dagRuns"] = answer
    response = await client.post("/runWorkflow/avg", json={"input": [1]})
    assert response.json() == {"output": 1.0}
    assert "idempotency-replayed" not in response.headers
    assert len(airflow.runs) == 1


async def test_a_trigger_that_takes_too_long_names_the_run(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(airflow_timeout=0.2)
    airflow.overrides["dagRuns"] = lambda _: asyncio.sleep(5)
    document = problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 503, "airflow-unavailable")
    assert document["run_id"] in document["detail"]
    assert airflow.count("/dagRuns") == 1


async def test_a_wait_that_broke_is_taken_up_again(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.overrides["wait"] = drop_first()
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}


async def test_a_wait_that_ended_early_is_taken_up_again(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    answers = iter([web.Response(text='{"state": "running"}\n'), None])
    airflow.overrides["wait"] = lambda _: next(answers)
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}


async def test_a_token_that_expired_while_waiting_is_replaced(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    def expire(_request: web.Request) -> None:
        airflow.tokens.clear()
        del airflow.overrides["wait"]

    airflow.overrides["wait"] = expire
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}
    assert airflow.count("/auth/token") == 2


async def test_readiness(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    airflow.overrides["version"] = text(500)
    assert (await client.get("/readyz")).status_code == 200  # asked at most once a second
    client.gateway._ready_at -= 2
    problem(await client.get("/readyz"), 503, "airflow-unavailable")
    assert (await client.get("/healthz")).json() == {"status": "alive"}


async def test_looking_at_a_run_takes_no_longer_than_a_call_to_airflow(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(airflow_timeout=0.3)
    response = await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"prefer": "respond-async"})
    airflow.overrides["wait"] = lambda _: asyncio.sleep(5)
    problem(await client.get(response.headers["location"]), 503, "airflow-unavailable")
