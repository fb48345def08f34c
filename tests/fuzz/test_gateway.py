"""The gateway, called in every way that its OpenAPI document allows and in those that it does not."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis.generation.modes import GenerationMode
from tests.fuzz.conftest import EXAMPLES
from tests.fuzz.memory import MIB, resident
from tests.unit.gateway.conftest import average, echoing, failing
from tests.unit.gateway.fake_airflow import FakeAirflow, FakeDag
from tests.unit.gateway.test_process import process

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS = (
    "POST /runWorkflow/{dag_id}",
    "GET /runs/{dag_id}/{run_id}",
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
    "GET /docs",
)

pytestmark = pytest.mark.timeout(600)


class Gateway:
    """A gateway's process before a small Airflow, which lives in a thread of this one."""

    def __init__(self) -> None:
        self.ready: Future[tuple[str, int]] = Future()
        self.airflow = FakeAirflow()
        self.loop = asyncio.new_event_loop()
        self.stop = asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(),))

    async def _serve(self) -> None:
        self.airflow.dags = {
            "avg": FakeDag(average),
            "fails": FakeDag(failing, downstream={"boom": ["after"], "after": []}),
            "echo": FakeDag(echoing("last"), downstream={"last": []}),
        }
        await self.airflow.start()
        try:
            async with process(self.airflow, wait_timeout=5) as (started, client):
                self.ready.set_result((str(client.base_url), started.pid))
                await self.stop.wait()
                assert started.returncode is None
        finally:
            await self.airflow.stop()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Any]:
    gateway = Gateway()
    gateway.thread.start()
    url, pid = gateway.ready.result(60)
    before = resident(pid)
    yield schemathesis.openapi.from_url(f"{url}/openapi.json")
    assert resident(pid) - before < 100 * MIB
    assert httpx.get(f"{url}/healthz").status_code == 200
    gateway.loop.call_soon_threadsafe(gateway.stop.set)
    gateway.thread.join(60)
    assert not gateway.thread.is_alive()


@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        *((operation, GenerationMode.POSITIVE) for operation in OPERATIONS),
        # The others take nothing that could be wrong.
        *((operation, GenerationMode.NEGATIVE) for operation in OPERATIONS[:2]),
    ],
)
def test_every_call_is_answered_as_the_document_says(gateway: Any, operation: str, mode: GenerationMode) -> None:
    method, path = operation.split(" ")

    @given(case=gateway[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=max(EXAMPLES, 25))
    def call(case: Any) -> None:
        case.call_and_validate(auth=("admin", "admin"), timeout=30)

    call()


def test_every_operation_is_called(gateway: Any) -> None:
    found = {f"{one.ok().method.upper()} {one.ok().path}" for one in gateway.get_all_operations()}
    # The document leaves itself out where it is read from.
    assert found | {"GET /openapi.json"} == set(OPERATIONS)
