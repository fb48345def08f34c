from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import aiohttp
import pytest

from airflow_knative.local.activator.proxy import TIMEOUT_TEXT

from .conftest import Bench, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio


async def test_an_answer_arrives_as_it_is_written(bench: Bench) -> None:
    bench.service()
    await bench.start()
    async with bench.request("/hold", headers=bench.release_file()) as response:
        assert response.content_type == "application/x-ndjson"
        assert (await response.content.readline()).startswith(b"started")
        bench.release()
        assert await response.content.read() == b"done\n"


async def test_a_body_is_passed_on_while_it_is_sent(bench: Bench) -> None:
    bench.service()
    await bench.start()
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        yield b"one\n"
        # Each piece is sent only when the one before has come all the way back.
        assert await heard.get() == b"one\n"
        yield b"two\n"
        assert await heard.get() == b"two\n"

    async with bench.request("/parrot", data=body()) as response:
        async for line in response.content:
            heard.put_nowait(line)
    assert response.status == 200


async def test_a_large_body_arrives_whole(bench: Bench) -> None:
    bench.service()
    await bench.start()
    data = b"x" * 3_000_000
    async with bench.request("/parrot", data=io.BytesIO(data)) as response:
        assert await response.read() == data


async def test_a_client_that_asks_first_is_told_to_go_on(bench: Bench) -> None:
    bench.service()
    await bench.start()
    async with bench.client.post(
        "/any", headers={"Host": "svc.airflow.local"}, data=b"late", expect100=True
    ) as response:
        answer = await response.json(content_type=None)
    assert answer["body"] == "late"
    assert "expect" not in answer["headers"]


async def test_a_caller_that_goes_away_is_gone_for_the_worker_too(bench: Bench) -> None:
    bench.service(max_scale=1)
    await bench.start()
    response = await bench.request("/hold", headers=bench.release_file())
    await response.content.readline()
    response.close()
    await eventually(lambda: bench.events("caller gone"))

    async def is_free() -> bool:
        [worker] = await bench.workers()
        return worker["in_use"] == 0

    await eventually(is_free)
    assert (await bench.ask())[0] == 200


async def test_a_caller_that_goes_away_while_it_waits_leaves_the_queue(bench: Bench) -> None:
    bench.service(max_scale=1)
    await bench.start()
    held = await bench.request("/hold", headers=bench.release_file())
    await held.content.readline()
    waiting = asyncio.create_task(bench.ask("/never"))

    async def one_waits() -> bool:
        return (await bench.status())["waiting"] == 1

    async def none_waits() -> bool:
        return (await bench.status())["waiting"] == 0

    await eventually(one_waits)
    waiting.cancel()
    await eventually(none_waits)
    bench.release()
    await held.read()
    assert (await bench.ask())[0] == 200
    assert bench.events("request /never") == []


async def test_an_answer_that_breaks_off_breaks_off_for_the_caller(bench: Bench) -> None:
    bench.service()
    await bench.start()
    async with bench.request("/break-off", headers=bench.release_file()) as response:
        assert await response.content.readline() == b"half\n"
        bench.release()
        with pytest.raises(aiohttp.ClientError):
            await response.content.read()


async def test_a_worker_that_dies_before_it_answers_is_a_bad_gateway(bench: Bench) -> None:
    bench.service()
    await bench.start()
    await bench.ask()
    status, problem = await bench.ask("/die-early")
    assert status == 502
    assert "dying early" in problem["output"]
    assert (await bench.ask())[0] == 200


async def test_a_stream_over_its_time_is_cut_as_knative_does(bench: Bench) -> None:
    bench.service(timeout=1.0)
    await bench.start()
    await bench.ask()
    async with bench.request("/hold", headers=bench.release_file()) as response:
        assert response.status == 200
        body = await response.read()
    assert body.startswith(b"started")
    assert body.endswith(TIMEOUT_TEXT)
    await eventually(lambda: bench.events("caller gone"))


async def test_waiting_too_long_for_a_worker_is_a_gateway_timeout(bench: Bench) -> None:
    bench.service(timeout=0.3, env={"READY_AFTER": "2"})
    await bench.start()
    async with bench.request("/any") as response:
        assert response.status == 504
        assert await response.read() == TIMEOUT_TEXT


async def test_an_unknown_host_is_not_found(bench: Bench) -> None:
    bench.service()
    await bench.start()
    status, problem = await bench.ask(service="other")
    assert status == 404
    assert "other.airflow.local" in problem["detail"]


@pytest.mark.parametrize("host", ["svc.airflow.local:8086", "SVC.Airflow.Local", "svc.airflow.local."])
async def test_host_names_are_compared_as_host_names(bench: Bench, host: str) -> None:
    bench.service()
    await bench.start()
    assert (await bench.ask(headers={"Host": host}))[0] == 200


async def test_headers_of_one_connection_are_not_passed_on(bench: Bench) -> None:
    bench.service()
    await bench.start()
    _, answer = await bench.ask(headers={"Connection": "X-Hop", "X-Hop": "1", "TE": "trailers", "X-End": "1"})
    assert {"x-hop", "te"} & set(answer["headers"]) == set()
    assert answer["headers"]["x-end"] == "1"
