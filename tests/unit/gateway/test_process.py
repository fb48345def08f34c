from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .conftest import ADMIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def process(
    airflow: FakeAirflow, **settings: Any
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """Run a gateway as a process of its own and yield it with a client."""
    environ = {f"AIRFLOW_KNATIVE_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    reader, writer = os.pipe()
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "airflow_knative.gateway",
        stdout=writer,
        stderr=writer,
        env=environ
        | {
            "AIRFLOW_KNATIVE_GATEWAY_AIRFLOW_URL": airflow.url,
            "AIRFLOW_KNATIVE_GATEWAY_HOST": "127.0.0.1",
            "PORT": "0",
        },
    )
    os.close(writer)
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb")
    )
    try:
        url = None
        while url is None:
            line = (await stream.readline()).decode()
            assert line, "the gateway ended before it listened"
            if "running on" in line:
                url = line.split("running on ")[1].split(" ")[0]
        async with httpx.AsyncClient(base_url=url, auth=ADMIN, timeout=20) as client:
            yield started, client
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
        transport.close()


async def test_sigterm_lets_calls_under_way_finish(airflow: FakeAirflow) -> None:
    async with process(airflow, grace=20) as (gateway, client):
        call = asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [1]}))
        await airflow.until(lambda: airflow.intervals)
        gateway.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert gateway.returncode is None
        next(iter(airflow.runs.values())).ends = 0
        assert (await call).json() == {"output": 1.0}
        assert await gateway.wait() == -signal.SIGTERM


async def test_a_long_grace_period_ends_with_the_last_call(airflow: FakeAirflow) -> None:
    async with process(airflow, grace=265) as (gateway, client):
        # An idle connection, which must not be waited for.
        assert (await client.get("/healthz")).status_code == 200
        calls = [asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [i]})) for i in range(2)]
        await airflow.until(lambda: len(airflow.intervals) == 2)
        gateway.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        with pytest.raises(httpx.ConnectError):
            await client.post("/runWorkflow/avg", json={"input": [1]})
        first, last = airflow.runs.values()
        for run in (first, last):
            assert gateway.returncode is None
            run.ends = 0
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert {(await call).status_code for call in calls} == {200}
        async with asyncio.timeout(5):
            await gateway.wait()


async def test_sigterm_answers_calls_that_take_longer_than_the_grace_period(airflow: FakeAirflow) -> None:
    async with process(airflow, grace=1.2) as (gateway, client):
        call = asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [1]}))
        await airflow.until(lambda: airflow.intervals)
        gateway.send_signal(signal.SIGTERM)
        response = await call
        assert response.status_code == 503
        assert ("slow", response.json()["run_id"]) in airflow.runs
        assert await gateway.wait() == -signal.SIGTERM


async def test_the_gateway_runs_without_airflow() -> None:
    code = "import sys, airflow_knative.gateway.__main__; print([m for m in sys.modules if m.startswith('airflow.')])"
    started = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await started.communicate()
    assert output.strip() == b"[]"
