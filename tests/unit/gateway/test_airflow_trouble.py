from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from airflow_knative.gateway import patience

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from .conftest import Check, Connect
    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.02)


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


def act_and_drop_first(airflow: FakeAirflow) -> Callable[[web.Request], Awaitable[web.Response | None]]:
    """Start the first run that is asked for, and lose the answer."""
    first = drop_first()

    async def answer(request: web.Request) -> web.Response | None:
        if airflow.count("/dagRuns") == 1:
            await airflow._trigger(request)
        return first(request)

    return answer


async def test_airflow_is_away(connect: Connect, problem: Check) -> None:
    client = await connect(airflow_url="http://127.0.0.1:1", airflow_patience=0.1)
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
        ("token", (502, "bad gateway"), (503, "airflow-unavailable")),
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
    connect: Connect,
    airflow: FakeAirflow,
    problem: Check,
    *,
    path: str,
    answer: tuple[int, str],
    kind: tuple[int, str],
) -> None:
    client = await connect(airflow_patience=0.1)
    airflow.overrides[path] = text(*answer)
    document = problem(await client.post("/runWorkflow/avg", json={"input": [1]}), *kind)
    if path == "wait":
        assert ("avg", document["run_id"]) in airflow.runs


async def test_a_trigger_whose_connection_broke_is_sent_again(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.overrides["dagRuns"] = drop_first()
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}
    assert len(airflow.runs) == 1


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "order-17"}])
async def test_a_trigger_whose_answer_was_lost_starts_no_second_run(
    client: httpx.AsyncClient, airflow: FakeAirflow, headers: dict[str, str]
) -> None:
    airflow.overrides["dagRuns"] = act_and_drop_first(airflow)
    response = await client.post("/runWorkflow/avg", json={"input": [1]}, headers=headers)
    assert response.json() == {"output": 1.0}
    assert "idempotency-replayed" not in response.headers
    assert len(airflow.runs) == 1
    assert airflow.count("/dagRuns") == 1  # the run was asked for first


async def test_a_lost_answer_does_not_let_a_key_be_used_for_another_input(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    headers = {"idempotency-key": "order-17"}
    await client.post("/runWorkflow/avg", json={"input": [1]}, headers=headers)
    airflow.overrides["dagRuns"] = drop_first()
    response = await client.post("/runWorkflow/avg", json={"input": [2]}, headers=headers)
    problem(response, 422, "idempotency-key-reused")


async def test_a_trigger_that_takes_too_long_names_the_run(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(airflow_timeout=0.2, airflow_patience=0)
    airflow.overrides["dagRuns"] = lambda _: asyncio.sleep(5)
    document = problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 503, "airflow-unavailable")
    assert document["run_id"] in document["detail"]
    assert airflow.count("/dagRuns") == 1


@pytest.mark.parametrize("started", [True, False])
async def test_a_trigger_that_stays_without_an_answer_starts_one_run(
    connect: Connect, airflow: FakeAirflow, *, started: bool
) -> None:
    client = await connect(airflow_timeout=0.2)

    async def answer(request: web.Request) -> None:
        del airflow.overrides["dagRuns"]
        if started:
            await airflow._trigger(request)
        await asyncio.sleep(5)

    airflow.overrides["dagRuns"] = answer
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}
    assert len(airflow.runs) == 1
    assert airflow.count("/dagRuns") == (1 if started else 2)


async def test_an_airflow_that_answers_no_question_is_given_no_second_trigger(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(airflow_timeout=0.1, airflow_patience=0.5)

    async def answer(request: web.Request) -> None:
        airflow.overrides[(await request.json())["dag_run_id"]] = lambda _: asyncio.sleep(5)
        await asyncio.sleep(5)

    airflow.overrides["dagRuns"] = answer
    document = problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 503, "airflow-unavailable")
    assert document["run_id"] in document["detail"]
    assert airflow.count(document["run_id"]) > 1
    assert airflow.count("/dagRuns") == 1


async def test_a_login_that_stays_without_an_answer_is_taken_up_again(connect: Connect, airflow: FakeAirflow) -> None:
    client = await connect(airflow_timeout=0.2)
    pauses = iter([5])
    airflow.overrides["token"] = lambda _: asyncio.sleep(next(pauses, 0))
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}


@pytest.mark.parametrize("path", ["avg", "wait"])
async def test_a_question_that_stays_without_an_answer_is_asked_again(
    connect: Connect, airflow: FakeAirflow, path: str
) -> None:
    client = await connect(airflow_timeout=0.2)
    pauses = iter([5])
    airflow.overrides[path] = lambda _: asyncio.sleep(next(pauses, 0))
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}


@pytest.mark.parametrize("path", ["avg", "dagRuns", "wait"])
async def test_a_fault_that_passes_is_borne_with(client: httpx.AsyncClient, airflow: FakeAirflow, path: str) -> None:
    """As of an Airflow whose database is back before one can ask for it."""
    answers = iter([web.Response(status=500, text="boom"), web.Response(status=500, text="boom")])
    airflow.overrides[path] = lambda _: next(answers, None)
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}


@pytest.mark.parametrize("health", [drop, lambda _: asyncio.sleep(5)], ids=["goes", "is silent"])
async def test_an_airflow_that_does_not_say_whether_it_has_its_database_is_away(
    connect: Connect, airflow: FakeAirflow, health: Callable[[web.Request], Any]
) -> None:
    """As one that waits for it: each 500 comes after a while, and no other answer before."""
    client = await connect(airflow_timeout=0.1)
    answers = iter([web.Response(status=500, text="Database error") for _ in range(5)])
    airflow.overrides |= {"wait": lambda _: next(answers, None), "health": health}
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).json() == {"output": 1.0}
    assert len(airflow.runs) == 1


async def test_a_fault_that_stays_is_told_soon(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    airflow.overrides["avg"] = text(500)
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 502, "airflow-error")
    assert airflow.count("/avg") == 3


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


async def test_readiness(connect: Connect, airflow: FakeAirflow, problem: Check) -> None:
    client = await connect(airflow_patience=3600)
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    airflow.overrides["version"] = text(503)
    assert (await client.get("/readyz")).status_code == 200  # asked at most once a second
    client.gateway._ready_at -= 2
    # A probe tells how it is now: it has no patience.
    problem(await client.get("/readyz"), 503, "airflow-unavailable")
    assert (await client.get("/healthz")).json() == {"status": "alive"}


async def test_looking_at_a_run_takes_no_longer_than_a_call_to_airflow(
    connect: Connect, airflow: FakeAirflow, problem: Check
) -> None:
    client = await connect(airflow_timeout=0.3)
    response = await client.post("/runWorkflow/avg", json={"input": [1]}, headers={"prefer": "respond-async"})
    airflow.overrides["wait"] = lambda _: asyncio.sleep(5)
    problem(await client.get(response.headers["location"]), 503, "airflow-unavailable")
