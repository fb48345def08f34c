"""Requests to a service's host name, passed on to one of its workers as they come in."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from airflow_knative.local.activator.errors import QueueFullError, RetiredError, StartError, StartTimeoutError

if TYPE_CHECKING:
    from airflow_knative.local.activator.pool import Pool
    from airflow_knative.local.activator.registry import Registry
    from airflow_knative.local.activator.worker import Worker

__all__ = ["TIMEOUT_TEXT", "Proxy"]

TIMEOUT_TEXT: Final = b"activator request timeout"
"""What Knative's activator writes when a service's timeoutSeconds are over."""
# RFC 9110, section 7.6.1; Expect is answered here.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_CONNECT_TRIES: Final = 3
_DEATH_NOTICE: Final = 0.2
"""Seconds in which the kernel tells of a worker's death once its connections have broken."""


class Proxy:
    """The handler of all requests but the administrator's."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._session = aiohttp.ClientSession(
            # A connection a request, as cheap as it is on loopback: no request can meet one that is being closed.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE),
        )

    async def close(self) -> None:
        """Break off what is under way."""
        await self._session.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        host = request.headers.get(hdrs.HOST, "")
        pool = self._registry.find(host)
        if pool is None:
            return _problem(
                404,
                "No such service",
                f"no service has the host name {host!r}; send the Host header of one that `local status` lists",
            )
        exchange = _Exchange(request, pool, self._session)
        try:
            async with asyncio.timeout(pool.service.timeout):
                return await exchange.run()
        except TimeoutError:
            return await exchange.cut_off()


class _Exchange:
    """One request and its answer."""

    def __init__(self, request: web.BaseRequest, pool: Pool, session: aiohttp.ClientSession) -> None:
        self._request = request
        self._pool = pool
        self._session = session
        self._response: web.StreamResponse | None = None

    async def run(self) -> web.StreamResponse:
        """Get a worker, pass the request on, pass the answer back."""
        for attempt in range(1, _CONNECT_TRIES + 1):
            try:
                worker = await self._pool.acquire(urgent=self._request.method not in {hdrs.METH_GET, hdrs.METH_HEAD})
            except QueueFullError as error:
                return _problem(503, "Too many requests wait", str(error), retry_after=1)
            except RetiredError as error:
                return _problem(503, "Service is being stopped", str(error), retry_after=1)
            except StartTimeoutError as error:
                return _problem(504, "Worker was not ready in time", str(error), output=error.output)
            except StartError as error:
                if error.by_signal:
                    return _problem(503, "Worker was ended while it started", str(error), retry_after=1)
                return _problem(502, "Worker did not start", str(error), output=error.output)
            try:
                return await self._forward(worker)
            except aiohttp.ClientConnectorError as error:
                # Nothing has been sent yet: the worker has ended just now.
                if attempt == _CONNECT_TRIES:
                    return _problem(503, "Worker does not answer", str(error), retry_after=1)
            finally:
                self._pool.release(worker)
        raise AssertionError

    async def cut_off(self) -> web.StreamResponse:
        """What Knative does when the time is over: 504, or that text at the end of what has been sent."""
        if self._response is None:
            return web.Response(status=504, body=TIMEOUT_TEXT, content_type="text/plain")
        await self._response.write(TIMEOUT_TEXT)
        await self._response.write_eof()
        return self._response

    async def _forward(self, worker: Worker) -> web.StreamResponse:
        request = self._request
        upstream: aiohttp.ClientResponse | None = None
        whole = False
        try:
            upstream = await self._session.request(
                request.method,
                URL(f"http://127.0.0.1:{worker.port}{request.raw_path}", encoded=True),
                headers=_end_to_end(request.headers),
                data=self._body(),
                allow_redirects=False,
            )
            self._response = response = web.StreamResponse(
                status=upstream.status, reason=upstream.reason, headers=_end_to_end(upstream.headers)
            )
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            whole = True
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, ConnectionError) as error:
            if upstream is not None:
                upstream.close()
            return await self._broken(worker, error)
        else:
            return response
        finally:
            if upstream is not None and not whole:
                # Whoever went away, the other side is to know at once.
                upstream.close()

    def _body(self) -> bytes | aiohttp.StreamReader | None:
        request = self._request
        if not request.body_exists:
            return None
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.content.is_eof():
            # All of it came together with the head.
            return request.content.read_nowait()
        return request.content

    async def _broken(self, worker: Worker, error: Exception) -> web.StreamResponse:
        """The worker went away, or the caller did."""
        if self._response is not None and self._request.transport is not None:
            # The caller must see that this is not the end of the answer.
            self._request.transport.abort()
        # A worker that has died must not be taken for a free one.
        await worker.wait_if_ending(_DEATH_NOTICE)
        if self._response is not None:
            return self._response
        detail = f"worker {worker.number} of {self._pool.service.name} broke the connection off"
        if worker.process is not None and worker.process.returncode is not None:
            detail = f"worker {worker.number} of {self._pool.service.name} ended with {worker.process.returncode}"
        return _problem(502, "Worker went away", f"{detail} ({type(error).__name__})", output=worker.output())


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers that are not about one connection only (RFC 9110, section 7.6.1)."""
    named = {name.strip().lower() for value in headers.getall(hdrs.CONNECTION, ()) for name in value.split(",")}
    kept = CIMultiDict(headers)
    for name in (_HOP_BY_HOP | named) & {name.lower() for name in headers}:
        kept.popall(name)
    return kept


def _problem(
    status: int, title: str, detail: str, *, output: str | None = None, retry_after: int | None = None
) -> web.Response:
    """A problem document (RFC 9457)."""
    document: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if output is not None:
        document["output"] = output
    headers = {} if retry_after is None else {hdrs.RETRY_AFTER: str(retry_after)}
    return web.Response(
        status=status, body=json.dumps(document).encode(), content_type="application/problem+json", headers=headers
    )
