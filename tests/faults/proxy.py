"""A proxy between dispatcher and activator that does to requests what networks and ingresses do."""

from __future__ import annotations

import asyncio
import threading
from typing import Final, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

__all__ = ["TROUBLES", "FaultProxy"]

TROUBLES: Final = {
    "connections cut in mid-stream": "cut",
    "answers cut as Knative does at timeoutSeconds": "time out",
    "connections dropped before the request is passed on": "drop",
    "503 before the request is passed on": "503",
    "502 after the request was passed on": "502",
    "streams frozen": "freeze",
}
_DROPPED: Final = {"connection", "transfer-encoding", "keep-alive"}


class FaultProxy:
    """Runs in a thread of its own; use as a context manager."""

    def __init__(self, target: str) -> None:
        """Pass requests on to the base URL `target`."""
        self._target = target
        self._trouble: str | None = None
        self._open: set[asyncio.Task[web.StreamResponse]] = set()
        self.hits = 0
        """Requests that got into trouble."""
        self._loop = asyncio.new_event_loop()
        self._flowing: asyncio.Event
        self._started = threading.Event()
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    def begin(self, trouble: str) -> None:
        """Make trouble from now on; for what is streaming, at once."""
        self._loop.call_soon_threadsafe(self._begin, trouble)

    def end(self) -> None:
        """Make no more."""
        self._loop.call_soon_threadsafe(self._begin, None)

    def _begin(self, trouble: str | None) -> None:
        self._trouble = trouble
        if trouble in {"cut", "time out"}:
            for task in self._open:
                self.hits += 1
                task.cancel(trouble)
        if trouble == "freeze":
            self.hits += len(self._open)
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _serve(self) -> None:
        self._stop, self._flowing = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            runner = web.ServerRunner(web.Server(self._handle, access_log=None, handler_cancellation=True))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._started.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if self._trouble == "503":
            self.hits += 1
            return web.Response(status=503, text="no healthy upstream")
        if self._trouble == "drop":
            self.hits += 1
            return _abort(request)
        passes_on = asyncio.create_task(self._pass_on(request, body))
        try:
            return await asyncio.shield(passes_on)
        except asyncio.CancelledError:
            passes_on.cancel()
            raise

    async def _pass_on(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _DROPPED)
        response = web.StreamResponse()
        try:
            async with self._session.request(
                request.method, self._target + request.path, data=body, headers=headers
            ) as answer:
                if self._trouble == "502":
                    self.hits += 1
                    return web.Response(status=502, text="upstream connect error or disconnect/reset")
                response.set_status(answer.status)
                response.content_type = answer.content_type
                await response.prepare(request)
                await self._stream(answer, response)
        except aiohttp.ClientError:
            return web.Response(status=502, text="upstream gone") if not response.prepared else _abort(request)
        except asyncio.CancelledError as error:
            if error.args[:1] == ("time out",):
                await response.write(b"activator request timeout")
                return response
            if error.args[:1] == ("cut",):
                return _abort(request)
            raise
        return response

    async def _stream(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            async for chunk in answer.content.iter_any():
                await self._flowing.wait()
                await response.write(chunk)
        finally:
            self._open.discard(task)


def _abort(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()  # type: ignore[attr-defined]
    return web.Response()
