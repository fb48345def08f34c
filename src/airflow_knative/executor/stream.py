"""One request to a worker over HTTP, and the records of its streamed answer."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.wire import PROBLEM_TYPE, TASK_PATH, Record, WireError, decode_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_knative.executor.endpoints import Endpoint

__all__ = ["BrokenOffError", "BusyError", "NotStartedError", "RefusedError", "Workers"]

_CHUNK: Final = 1 << 16
_SHOWN: Final = 300


class NotStartedError(AirflowKnativeError):
    """The request surely did not start, and may be sent again."""


class BusyError(NotStartedError):
    """As `NotStartedError`, because there is no room for now: waiting is all it takes."""


class RefusedError(AirflowKnativeError):
    """The request surely did not start, and never will."""


class BrokenOffError(AirflowKnativeError):
    """The answer ended without its end, or never began: the task may be running."""


class Workers:
    """Sends requests to workers; use as an asynchronous context manager."""

    def __init__(self, *, connect_timeout: float, max_record_bytes: int) -> None:
        """Wait `connect_timeout` seconds for a connection; refuse records beyond `max_record_bytes`."""
        self._connect_timeout = connect_timeout
        self._max_record_bytes = max_record_bytes
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            # One connection a request: on a kept one that the other side just closed, nobody could tell whether
            # the request was read, and then it must not be sent again.
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=5),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=self._connect_timeout),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection; workers see that they lost their caller."""
        await self._session.close()

    @asynccontextmanager
    async def run(self, endpoint: Endpoint, body: bytes, token: str) -> AsyncIterator[AsyncIterator[list[Record]]]:
        """Send a request; yields an iterator of the records as they come, batched as they came.

        Raises:
            NotStartedError: it may be sent again.
            RefusedError: it must not.
            BrokenOffError: the task may be running.
            WireError: the answer breaks the contract.
        """
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        if endpoint.host:
            headers["host"] = endpoint.host
        try:
            response = await self._session.post(
                f"{endpoint.url.rstrip('/')}{TASK_PATH}", data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, socket.gaierror) as error:
            raise NotStartedError(f"Service {endpoint.name} cannot be reached at {endpoint.url}: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenOffError(
                f"The connection to service {endpoint.name} broke before it answered: {error!r}"
            ) from error
        try:
            if response.status != 200:  # noqa: PLR2004
                raise await _refusal(endpoint, response)
            yield self._records(endpoint, response)
        finally:
            response.close()

    async def _records(self, endpoint: Endpoint, response: aiohttp.ClientResponse) -> AsyncIterator[list[Record]]:
        rest = bytearray()
        try:
            async for chunk in response.content.iter_any():
                rest += chunk
                if len(rest) > self._max_record_bytes and b"\n" not in rest:
                    raise WireError(
                        f"Service {endpoint.name} sent a record of more than {self._max_record_bytes} bytes "
                        "([knative] max_record_bytes)."
                    )
                if b"\n" in chunk:
                    whole, _, rest = rest.rpartition(b"\n")
                    yield [decode_record(bytes(line)) for line in whole.split(b"\n")]
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise BrokenOffError(f"The answer of service {endpoint.name} broke off: {error!r}") from error
        if rest:
            # Knative appends a text of its own when it cuts an answer at the service's timeoutSeconds.
            raise BrokenOffError(
                f"The answer of service {endpoint.name} was cut: {rest[:_SHOWN].decode(errors='replace')!r}"
            )


async def _refusal(endpoint: Endpoint, response: aiohttp.ClientResponse) -> AirflowKnativeError:
    """Tell what an answer other than 200 means for the request."""
    try:
        body = await response.content.read(_CHUNK)
    except (aiohttp.ClientError, OSError):
        body = b""
    ours = response.content_type == PROBLEM_TYPE
    said = f"Service {endpoint.name} answered {response.status}: {_text(body, ours=ours)}"
    status = response.status
    if ours:
        # Ours tell what they mean: 503 and 429 are for now, 409 says that it was started before, the rest is final.
        if status in {429, 503}:
            return BusyError(said)
        if status == 401 and "expired" in said:  # noqa: PLR2004
            return NotStartedError(said)
        return BrokenOffError(said) if status == 409 else RefusedError(said)  # noqa: PLR2004
    if status == 404:  # noqa: PLR2004 - an ingress that does not know the service yet
        return NotStartedError(said)
    if status == 429 or (status == 503 and any(text in body for text in _FULL)):  # noqa: PLR2004
        return BusyError(said)
    if status == 503 and any(text in body for text in _NEVER_REACHED):  # noqa: PLR2004
        return NotStartedError(said)
    return BrokenOffError(said)


# What Envoy, the activator and queue-proxy say when they did not reach a container at all.
_NEVER_REACHED: Final = (
    b"no healthy upstream",
    b"reset reason: connection failure",
    b"reset reason: remote connection failure",
)
_FULL: Final = (b"reset reason: overflow", b"activator overload", b"pending request queue full")


def _text(body: bytes, *, ours: bool) -> str:
    if ours:
        try:
            return str(json.loads(body)["detail"])
        except (ValueError, KeyError, TypeError):
            pass
    return body[:_SHOWN].decode(errors="replace").strip() or "nothing"
