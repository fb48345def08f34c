"""The trouble that the proxy makes, without anything of Airflow's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from .proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Target:
    """Streams a line, and another when it may."""

    def __init__(self) -> None:
        self.requests = 0
        self.go_on = asyncio.Event()
        self.lost = asyncio.Event()
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        assert await request.read() == b"body"
        self.requests += 1
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await response.write(b"first\n")
            await self.go_on.wait()
            await response.write(b"last\n")
        except (ConnectionError, asyncio.CancelledError):
            self.lost.set()
            raise
        return response


@pytest_asyncio.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    app = web.Application()
    app.router.add_post("/path", target.serve)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    target.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield target
    await runner.cleanup()


@pytest.fixture
def proxy(target: Target) -> Iterator[FaultProxy]:
    with FaultProxy(target.url) as proxy:
        yield proxy


async def _post(proxy: FaultProxy) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.post(f"{proxy.url}/path", data=b"body") as answer:
        return answer.status, await answer.read()


async def _meanwhile(proxy: FaultProxy, target: Target, trouble: str) -> asyncio.Task[tuple[int, bytes]]:
    posting = asyncio.create_task(_post(proxy))
    while not target.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    proxy.begin(trouble)
    await asyncio.sleep(0.2)
    return posting


async def test_it_passes_on_what_it_is_to_leave_alone(proxy: FaultProxy, target: Target) -> None:
    target.go_on.set()
    assert await _post(proxy) == (200, b"first\nlast\n")
    assert proxy.hits == 0


@pytest.mark.parametrize(("trouble", "requests"), [("503", 0), ("502", 1)])
async def test_it_answers_itself(proxy: FaultProxy, target: Target, trouble: str, requests: int) -> None:
    target.go_on.set()
    proxy.begin(trouble)
    status, _ = await _post(proxy)
    assert (status, target.requests, proxy.hits) == (int(trouble), requests, 1)
    proxy.end()
    assert await _post(proxy) == (200, b"first\nlast\n")


async def test_it_drops_a_connection(proxy: FaultProxy, target: Target) -> None:
    proxy.begin("drop")
    with pytest.raises(aiohttp.ClientError):
        await _post(proxy)
    assert (target.requests, proxy.hits) == (0, 1)


async def test_it_cuts_a_stream_on_both_sides(proxy: FaultProxy, target: Target) -> None:
    posting = await _meanwhile(proxy, target, "cut")
    with pytest.raises(aiohttp.ClientError):
        await posting
    await asyncio.wait_for(target.lost.wait(), 10)
    assert proxy.hits == 1


async def test_it_ends_a_stream_as_knative_does(proxy: FaultProxy, target: Target) -> None:
    posting = await _meanwhile(proxy, target, "time out")
    assert await posting == (200, b"first\nactivator request timeout")
    await asyncio.wait_for(target.lost.wait(), 10)


async def test_it_freezes_a_stream(proxy: FaultProxy, target: Target) -> None:
    posting = await _meanwhile(proxy, target, "freeze")
    target.go_on.set()
    await asyncio.sleep(0.3)
    assert not posting.done()
    proxy.end()
    assert await posting == (200, b"first\nlast\n")
    assert proxy.hits == 1
