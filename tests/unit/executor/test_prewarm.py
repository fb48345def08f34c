"""Nudges to services: who gets one, how many at once, and who takes them back."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web

from airflow_knative.executor import prewarm
from airflow_knative.executor.endpoints import Endpoint
from airflow_knative.executor.outcome import Outcome
from airflow_knative.executor.prewarm import Prewarmer
from airflow_knative.executor.prewarm_plan import Node, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ACTIVE = Progress(unfinished=1, is_active=True)
DONE = Progress(succeeded=True)
CHAIN = {
    "a": Node("a", downstream=frozenset({"b", "c"})),
    "b": Node("b", upstream=frozenset({"a"}), downstream=frozenset({"d"})),
    "c": Node("c", upstream=frozenset({"a"}), downstream=frozenset({"d"})),
    "d": Node("d", upstream=frozenset({"b", "c"})),
}


class Services:
    """All services on one server, which holds each request until its service is let go."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.open: Counter[str] = Counter()
        self.most_open = 0
        self.let_go = asyncio.Event()
        self.requests: list[str] = []
        self.url = ""
        self.options: dict[str, Any] = {}
        self.shared: str | None = None
        self.missing: set[str] = set()

    async def handle(self, request: web.Request) -> web.Response:
        name = request.headers["host"]
        self.requests.append(f"{request.method} {request.path} {sorted(set(request.headers) & {'Authorization'})}")
        self.came.append(name)
        self.open[name] += 1
        self.most_open = max(self.most_open, sum(self.open.values()))
        try:
            await self.let_go.wait()
        finally:
            self.open[name] -= 1
        return web.Response(text="{}")

    def find(self, _dag_id: str, task_id: str) -> Endpoint:
        raise AssertionError(f"Nothing is to be asked for the sake of {task_id}")

    def known(self, dag_id: str, task_id: str) -> Endpoint | None:
        if task_id in self.missing:
            return None
        name = self.shared or task_id
        return Endpoint(dag_id=dag_id, name=name, url=self.url, host=name, **self.options)


class Database:
    """How far the run is; None when it is over."""

    def __init__(self) -> None:
        self.nodes = dict(CHAIN)
        self.progress: dict[str, Progress] | None = {"a": ACTIVE}
        self.reads = 0

    async def read(self, _dag_id: str, _run_id: str) -> tuple[dict[str, Node], dict[str, Progress]] | None:
        self.reads += 1
        return None if self.progress is None else (self.nodes, self.progress)


@pytest_asyncio.fixture
async def services() -> AsyncIterator[Services]:
    services = Services()
    runner = web.ServerRunner(web.Server(services.handle, handler_cancellation=True, access_log=None))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    services.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield services
    services.let_go.set()
    await runner.cleanup()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest_asyncio.fixture
async def prewarmer(
    services: Services, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Prewarmer]:
    monkeypatch.setattr(prewarm, "_DELAY", 0.0)
    async with Prewarmer(services, database.read, depth=1, limit=10) as prewarmer:
        yield prewarmer


def ti(task_id: str, run_id: str = "r") -> dict[str, Any]:
    return {"dag_id": "d", "run_id": run_id, "task_id": task_id}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is another's
            await asyncio.sleep(0.005)


async def planned(database: Database, reads: int = 1) -> None:
    """Wait until a plan has been acted upon."""
    await until(lambda: database.reads >= reads)
    await asyncio.sleep(0.05)


async def test_what_comes_next_is_nudged(prewarmer: Prewarmer, services: Services) -> None:
    prewarmer.began(1, ti("a"))
    await until(lambda: sorted(services.came) == ["b", "c"])
    assert set(services.requests) == {"GET /readyz []"}


async def test_as_far_ahead_as_it_is_told(services: Services, database: Database) -> None:
    async with Prewarmer(services, database.read, depth=2, limit=10) as prewarmer:
        prewarmer.began(1, ti("a"))
        await until(lambda: sorted(services.came) == ["b", "c", "d"])


async def test_never_more_at_once_than_allowed(services: Services, database: Database) -> None:
    async with Prewarmer(services, database.read, depth=2, limit=2) as prewarmer:
        prewarmer.began(1, ti("a"))
        await until(lambda: len(services.came) == 2)
        await asyncio.sleep(0.05)
        assert sum(services.open.values()) == 2
        services.let_go.set()
        await until(lambda: len(services.came) == 3)
    assert services.most_open == 2


async def test_a_warm_service_is_left_alone_and_the_database_with_it(
    prewarmer: Prewarmer, services: Services, database: Database
) -> None:
    services.let_go.set()
    prewarmer.began(1, ti("a"))
    await until(lambda: len(services.came) == 2)
    await until(lambda: prewarmer.told("d", "r", "c") is not None)
    await asyncio.sleep(0.05)
    prewarmer.ended(1, Outcome.SETTLED)
    prewarmer.began(2, ti("a", "another run"))
    await asyncio.sleep(0.05)
    assert (len(services.came), database.reads) == (2, 1)


async def test_a_service_that_took_a_task_is_warm(prewarmer: Prewarmer, services: Services, database: Database) -> None:
    for number, task_id in enumerate(("b", "c")):
        prewarmer.began(number, ti(task_id, "earlier"))
        prewarmer.ended(number, Outcome.SETTLED)
    prewarmer.began(3, ti("a"))
    await planned(database)
    assert services.came == []


async def test_one_that_failed_to_take_it_is_not(prewarmer: Prewarmer, services: Services) -> None:
    prewarmer.began(1, ti("b", "earlier"))
    prewarmer.ended(1, Outcome.FAILED)
    prewarmer.began(2, ti("a"))
    await until(lambda: "b" in services.came)


async def test_a_service_may_have_gone_back_to_zero(prewarmer: Prewarmer, services: Services) -> None:
    services.options = {"window": 0.02}
    services.let_go.set()
    prewarmer.began(1, ti("a"))
    await until(lambda: len(services.came) == 2)
    await asyncio.sleep(0.05)
    prewarmer.began(2, ti("a", "another run"))
    await until(lambda: len(services.came) == 4)


async def test_a_request_takes_the_place_of_its_nudge(prewarmer: Prewarmer, services: Services) -> None:
    prewarmer.began(1, ti("a"))
    await until(lambda: services.open == {"b": 1, "c": 1})
    prewarmer.began(2, ti("b"))
    await until(lambda: services.open == {"b": 0, "c": 1})


async def test_nudges_end_with_the_run(prewarmer: Prewarmer, services: Services, database: Database) -> None:
    prewarmer.began(1, ti("a"))
    await until(lambda: services.open == {"b": 1, "c": 1})
    database.progress = None
    prewarmer.ended(1, Outcome.FAILED)
    await until(lambda: sum(services.open.values()) == 0)


async def test_nudges_outlast_a_task_of_a_run_that_goes_on(
    prewarmer: Prewarmer, services: Services, database: Database
) -> None:
    prewarmer.began(1, ti("a"))
    await until(lambda: services.open == {"b": 1, "c": 1})
    database.progress = {"a": DONE}
    prewarmer.ended(1, Outcome.SETTLED)
    await planned(database, 2)
    assert services.open == {"b": 1, "c": 1}


async def test_nudges_end_with_the_dispatcher(services: Services, database: Database) -> None:
    async with Prewarmer(services, database.read, depth=2, limit=1) as prewarmer:
        prewarmer.began(1, ti("a"))
        await until(lambda: len(services.came) == 1)
    await until(lambda: sum(services.open.values()) == 0)
    await asyncio.sleep(0.05)
    assert len(services.came) == 1


async def test_a_fan_out_is_nudged_once_for_each_instance_within_its_scale(
    prewarmer: Prewarmer, services: Services, database: Database
) -> None:
    database.nodes = {"a": Node("a", downstream=frozenset({"b"})), "b": Node("b", upstream=frozenset({"a"}))}
    database.progress = {"a": ACTIVE, "b": Progress(unfinished=9)}
    services.options = {"max_scale": 2, "slots": 3}
    prewarmer.began(1, ti("a"))
    await until(lambda: len(services.came) == 6)
    await planned(database)
    assert services.came == ["b"] * 6


async def test_a_service_for_the_whole_dag_gets_what_its_running_tasks_leave_over(
    prewarmer: Prewarmer, services: Services, database: Database
) -> None:
    services.shared = "whole"
    prewarmer.began(1, ti("a"))  # its slot is free when b and c come
    await planned(database)
    assert services.came == ["whole"]


async def test_what_no_service_runs_is_passed_over(prewarmer: Prewarmer, services: Services) -> None:
    services.missing = {"a", "c"}
    prewarmer.began(1, ti("a"))
    await until(lambda: services.came == ["b"])


async def test_a_task_known_to_be_far_off_is_nudged_shortly_before_its_turn(
    prewarmer: Prewarmer, services: Services, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prewarm, "_LEAD", 0.1)
    services.options = {"window": 0.02}
    services.let_go.set()
    prewarmer.began(1, ti("a", "earlier"))
    await asyncio.sleep(0.5)  # so long it takes
    prewarmer.ended(1, Outcome.SETTLED)
    await until(lambda: len(services.came) == 2)  # nothing was known then
    services.came.clear()
    database.progress = {"a": Progress(unfinished=1, is_active=True, started=time.time())}
    prewarmer.began(2, ti("a"))
    await planned(database, 2)
    assert services.came == []
    await until(lambda: sorted(services.came) == ["b", "c"])


async def test_a_service_in_trouble_costs_nothing(prewarmer: Prewarmer, services: Services, database: Database) -> None:
    services.url = "http://127.0.0.1:1"
    prewarmer.began(1, ti("a"))
    await planned(database)
    told = prewarmer.told("d", "r", "b")
    assert told is not None
    assert told["ready"] is None
    services.options = {}
    prewarmer.ended(1, Outcome.SETTLED)
    assert prewarmer._runs == {}


async def test_when_it_was_nudged_and_ready_is_told(prewarmer: Prewarmer, services: Services) -> None:
    prewarmer.began(1, ti("a"))
    await until(lambda: services.open == {"b": 1, "c": 1})
    before = prewarmer.told("d", "r", "b")
    assert before is not None
    assert before["ready"] is None
    services.let_go.set()
    await until(lambda: bool((prewarmer.told("d", "r", "b") or {})["ready"]))
    after = json.loads(json.dumps(prewarmer.told("d", "r", "b")))
    assert after["nudged"] <= after["ready"]
    assert prewarmer.told("d", "other run", "b") is None
    assert prewarmer.told("d", "r", None) is None


async def test_nothing_is_kept_of_a_run_that_is_over(
    prewarmer: Prewarmer, services: Services, database: Database
) -> None:
    services.let_go.set()
    prewarmer.began(1, ti("a"))
    await planned(database)
    await until(lambda: len(services.came) == 2)
    prewarmer.ended(1, Outcome.SETTLED)
    await until(lambda: prewarmer._runs == {} and prewarmer._calls == {})


async def test_a_database_in_trouble_is_no_trouble_for_calls(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prewarm, "_DELAY", 0.0)

    async def read(_dag_id: str, _run_id: str) -> None:
        raise OSError("away")

    async with Prewarmer(services, read, depth=1, limit=1) as prewarmer:
        prewarmer.began(1, ti("a"))
        await until(lambda: "Reading a run for pre-warming failed" in caplog.text)
        prewarmer.ended(1, Outcome.SETTLED)
        assert prewarmer._runs == {}
