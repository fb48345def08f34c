"""A dispatcher that ends leaves no task instance behind of which nobody could tell whether it was started."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from airflow_knative.executor import channel
from airflow_knative.executor import dispatcher as dispatcher_module
from airflow_knative.executor.dispatcher import Dispatcher

from . import test_call
from .test_call import STARTED, finished, success

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from .test_call import Stage

stage = test_call.stage


class Running:
    """A dispatcher at work, and the scheduler's end of its socket."""

    def __init__(self, stage: Stage, dispatcher: Dispatcher, scheduler: asyncio.StreamWriter) -> None:
        self._stage = stage
        self.dispatcher = dispatcher
        self.scheduler = scheduler
        self.serving = asyncio.create_task(dispatcher.run(stage.context))

    async def begin(self) -> None:
        """Have it run the task instance, until its request is with a worker."""
        self._stage.requests.clear()
        self._stage.database.state = "queued"
        message = self._stage.call()._message
        self.scheduler.write(channel.encode({"type": channel.RUN, "call": 1, **message}))
        while not self._stage.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def running(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """One whose service took its last request at once, and would take its time for the next."""

    async def listen(_wake: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(dispatcher_module, "listen", listen)
    stage.answers(STARTED, success(0), finished(1))
    await stage.run()
    ours, theirs = socket.socketpair()
    _, scheduler = await asyncio.open_unix_connection(sock=ours)
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    running = Running(stage, Dispatcher(reader, writer), scheduler)
    try:
        yield running
    finally:
        running.serving.cancel()
        await asyncio.gather(running.serving, return_exceptions=True)
        for end in (scheduler, writer):
            end.close()


async def _never(_request: web.Request, _response: web.StreamResponse) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("end", ["stop", "closed"])
async def test_it_waits_until_a_worker_has_taken_what_need_not_be_claimed(
    stage: Stage, running: Running, end: str
) -> None:
    go_on = asyncio.Event()
    stage.answers(STARTED, then=_never)
    answer = stage.behaviour

    async def wait(request: web.Request) -> Any:
        await go_on.wait()
        return await answer(request)

    stage.behaviour = wait
    await running.begin()
    assert not stage.requests[0]["claim"]
    if end == "stop":
        running.dispatcher.stop()
    else:
        running.scheduler.close()
    await asyncio.sleep(0.2)
    assert not running.serving.done()
    go_on.set()
    await asyncio.wait_for(running.serving, 3)
    assert stage.database.state == "running"  # which is the worker's to end


async def test_it_leaves_at_once_what_its_successor_can_tell_about(stage: Stage, running: Running) -> None:
    stage.context.promptness.__init__()  # type: ignore[misc] # as after a while without requests
    stage.behaviour = lambda _request: asyncio.Event().wait()
    await running.begin()
    assert stage.requests[0]["claim"]
    running.dispatcher.stop()
    await asyncio.wait_for(running.serving, 3)


async def test_it_does_not_wait_for_ever(stage: Stage, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "_LEAVE_TIMEOUT", 0.2)
    stage.behaviour = lambda _request: asyncio.Event().wait()
    await running.begin()
    running.dispatcher.stop()
    await asyncio.wait_for(running.serving, 3)
