"""One request to a worker over HTTP, and the records of its streamed answer."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.wire import PROBLEM_TYPE, TASK_PATH, Record, WireError, decode_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import AddrInfoType

    from airflow_knative.executor.endpoints import Endpoint

__all__ = ["BrokenOffError", "BusyError", "NotStartedError", "RefusedError", "Workers"]

_CHUNK: Final = 1 << 16
_SHOWN: Final = 300
_ANSWER_MARGIN: Final = 30.0  # seconds beyond a service's timeout, at which Knative itself answers with 504

# A peer that vanishes without a word is found out within half a minute (tcp(7)).
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


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
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=5, socket_factory=_socket),
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
        patience = endpoint.timeout + _ANSWER_MARGIN
        try:
            async with asyncio.timeout(patience):
                response = await self._session.post(
                    f"{endpoint.url.rstrip('/')}{TASK_PATH}", data=body, headers=headers, allow_redirects=False
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, socket.gaierror) as error:
            raise NotStartedError(f"Service {endpoint.name} cannot be reached at {endpoint.url}: {error}") from error
        except TimeoutError as error:
            raise BrokenOffError(f"Service {endpoint.name} did not answer within {patience:g} s.") from error
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


def _socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    for option in _KEEPALIVE:
        sock.setsockopt(*option)
    return sock


async def _refusal(endpoint: Endpoint, response: aiohttp.ClientResponse) -> AirflowKnativeError:
    """Tell what an answer other than 200 means for the request."""
    try:
        body = await response.content.read(_CHUNK)
    except (aiohttp.ClientError, OSError):
        body = b""
    problem = _problem(body) if response.content_type == PROBLEM_TYPE else None
    shown = str(problem["detail"]) if problem else body[:_SHOWN].decode(errors="replace").strip() or "nothing"
    said = f"Service {endpoint.name} answered {response.status}: {shown}"
    status = response.status
    if problem is not None:
        return _ours(status, str(problem.get("title")), said)
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


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "detail" in found else None


# Titles of the local activator's problems.
_MAY_HAVE_STARTED: Final = "Worker went away"
_NO_WORKER: Final = frozenset(
    {"Worker does not answer", "Worker was ended while it started", "Worker was not ready in time"}
)


def _ours(status: int, title: str, said: str) -> AirflowKnativeError:
    """Tell what a problem document means: a worker's, or the local activator's."""
    if status == 409 or title == _MAY_HAVE_STARTED:  # noqa: PLR2004
        return BrokenOffError(said)
    # 401: a signature is good for a time, and a worker of before another key was given is about to go.
    if title in _NO_WORKER or status == 401:  # noqa: PLR2004
        return NotStartedError(said)
    return BusyError(said) if status in {429, 503} else RefusedError(said)
