"""The few calls of Airflow's public API (version 2) and of its FAB auth manager that the gateway makes."""

from __future__ import annotations

import asyncio
import json
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from airflow_knative import __version__
from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from airflow_knative.gateway.settings import Settings

__all__ = [
    "Airflow",
    "AirflowError",
    "Answer",
    "BrokenError",
    "FaultError",
    "RefusedError",
    "TokenRefusedError",
    "TooLargeError",
    "UnavailableError",
]

# What `resolve_user_from_token` of Airflow's core_api/security.py answers, with 403, for a token that it cannot verify.
_INVALID_TOKEN: Final = "Invalid JWT token"  # noqa: S105
_LONGEST_DETAIL: Final = 500
_CONNECT_TIMEOUT: Final = 5.0
# What a proxy in front of Airflow answers while nothing behind it does.
_AWAY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE})
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.GATEWAY_TIMEOUT})
_KEEPALIVE: Final = 4.0


class AirflowError(AirflowKnativeError):
    """A call to Airflow did not give what was asked for."""


class TokenRefusedError(AirflowError):
    """Airflow does not take the token."""


class RefusedError(AirflowError):
    """Airflow answered with a 4xx status; the message is the reason that it gave."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class UnavailableError(AirflowError):
    """Airflow cannot be reached, or says that it cannot serve now.

    Args:
        message: What happened.
        sent: Whether the request may have reached Airflow, so that it may have acted on it.
        again: Whether sending it again makes sense, as soon as Airflow is back.
    """

    def __init__(self, message: str, *, sent: bool = False, again: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.again = again


class BrokenError(AirflowError):
    """Airflow answered with a 5xx status or with something that its API does not say."""


class FaultError(BrokenError):
    """Airflow answered 500: for a fault of its own, or because it had lost its database a moment before."""


class TooLargeError(BrokenError):
    """Airflow sent more than the gateway takes."""


class Answer(NamedTuple):
    """The end of a wait: the run's state, and the values it returned by task id."""

    state: str
    results: dict[str, Any]
    wrapped: bool
    """Whether there may be values among the results that the task SDK wrapped."""


class Airflow:
    """A client for one Airflow, over pooled connections that are kept alive.

    aiohttp rather than httpx: a trigger and a wait take 0.3-0.6 ms of CPU time here instead of 2.7-6 ms, and that is
    most of what the gateway does for a call.
    """

    def __init__(self, settings: Settings) -> None:
        base = settings.airflow_url
        self._base = base
        self._api = f"{base}/api/v2"
        self._max_output = settings.max_output_bytes
        self._timeout = settings.airflow_timeout
        self._plain_timeout = aiohttp.ClientTimeout(
            total=settings.airflow_timeout, sock_connect=min(_CONNECT_TIMEOUT, settings.airflow_timeout)
        )
        context: ssl.SSLContext | bool = True
        if settings.airflow_ca_file is not None:
            context = ssl.create_default_context(cafile=settings.airflow_ca_file)
        # uvicorn, under Airflow's API server, closes a connection that was idle for 5 s; the pool gives it up before.
        connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=_KEEPALIVE)
        self._session = aiohttp.ClientSession(
            connector=connector,
            # A jar would carry one caller's session over to the next one.
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compression would make Airflow hold back the lines of a wait.
            headers={"accept-encoding": "identity", "user-agent": f"airflow-knative-gateway/{__version__}"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def token(self, user: str, password: str) -> str:
        """Exchange a user and password for a token.

        Raises:
            RefusedError: 400 or 401 for a wrong user or password.
        """
        body = json.dumps({"username": user, "password": password}).encode()
        answer = await self._call("POST", f"{self._base}/auth/token", None, body=body)
        return _text(answer, "access_token", "/auth/token")

    async def is_paused(self, token: str, dag_id: str) -> bool:
        """Whether a DAG is paused."""
        answer = await self._call("GET", self._dag(dag_id), token)
        paused = answer.get("is_paused")
        if not isinstance(paused, bool):
            raise BrokenError(f"Airflow's answer about DAG {dag_id!r} does not say whether it is paused.")
        return paused

    async def unpause(self, token: str, dag_id: str) -> None:
        """Unpause a DAG."""
        await self._call("PATCH", f"{self._dag(dag_id)}?update_mask=is_paused", token, body=b'{"is_paused":false}')

    async def trigger(self, token: str, dag_id: str, run_id: str, data: bytes) -> dict[str, Any]:
        """Start a run with the conf `{"data": data}`; `data` is JSON text. Return Airflow's account of the run.

        The logical date is null: runs with one must differ in it, so that concurrent calls would clash.
        """
        body = b'{"dag_run_id":%b,"logical_date":null,"conf":{"data":%b}}' % (json.dumps(run_id).encode(), data)
        return await self._call("POST", f"{self._dag(dag_id)}/dagRuns", token, body=body)

    async def run(self, token: str, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return Airflow's account of a run."""
        return await self._call("GET", self._run(dag_id, run_id), token)

    async def wait(
        self,
        token: str,
        dag_id: str,
        run_id: str,
        *,
        interval: float,
        tasks: Sequence[str] = (),
        seen: Callable[[str], None] | None = None,
    ) -> Answer:
        """Wait until a run has ended.

        Args:
            token: The caller's token.
            dag_id: The DAG.
            run_id: The run.
            interval: Seconds between the looks that Airflow takes at the run.
            tasks: Ids of the tasks whose return values are wanted; of none: the one that the DAG returns.
            seen: Called with each state on the way.
        """
        query = f"interval={interval:.4f}" + "".join(f"&result={quote(task, safe='')}" for task in tasks)
        url = f"{self._run(dag_id, run_id)}/wait?{query}"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._plain_timeout.sock_connect, sock_read=interval + self._timeout
        )
        try:
            async with self._session.get(
                URL(url, encoded=True), headers=_headers(token), timeout=timeout, allow_redirects=False
            ) as response:
                await self._raise_for_status(response)
                async for line in self._lines(response):
                    answer = _parse(line, "the wait for a run")
                    state = _text(answer, "state", "the wait for a run")
                    if state in {"success", "failed"}:
                        results = answer.get("results") or {}
                        return Answer(state, results, b'"__classname__"' in line)
                    if seen is not None:
                        seen(state)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(error) from error
        message = f"Airflow at {self._base} ended the wait for run {run_id!r} before the run."
        raise UnavailableError(message, sent=True, again=True)

    async def tasks(self, token: str, dag_id: str) -> list[dict[str, Any]]:
        """Return the tasks of a DAG."""
        answer = await self._call("GET", f"{self._dag(dag_id)}/tasks", token)
        return _objects(answer, "tasks")

    async def task_instances(
        self, token: str, dag_id: str, run_id: str, query: str
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the first task instances of a run that the query selects, and how many it selects."""
        answer = await self._call("GET", f"{self._run(dag_id, run_id)}/taskInstances?{query}", token)
        items = _objects(answer, "task_instances")
        total = answer.get("total_entries")
        return items, total if isinstance(total, int) else len(items)

    async def returned_map_indexes(self, token: str, dag_id: str, run_id: str, task_id: str) -> list[int]:
        """Return the map indexes of the instances of a task that returned a value, in ascending order."""
        url = f"{self._run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/xcomEntries"
        indexes: list[int] = []
        while True:
            page = f"{url}?xcom_key=return_value&order_by=map_index&limit=100&offset={len(indexes)}"
            answer = await self._call("GET", page, token)
            entries = _objects(answer, "xcom_entries")
            indexes += [int(entry["map_index"]) for entry in entries]
            total = answer.get("total_entries")
            if not entries or not isinstance(total, int) or len(indexes) >= total:
                return indexes

    async def log(
        self, token: str, dag_id: str, run_id: str, task_id: str, *, try_number: int, map_index: int
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the records of one try's log."""
        url = f"{self._run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/logs/{try_number}"
        headers = _headers(token) | {"accept": "application/x-ndjson"}
        target = URL(f"{url}?map_index={map_index}&full_content=true", encoded=True)
        try:
            async with self._session.get(
                target, headers=headers, timeout=self._plain_timeout, allow_redirects=False
            ) as response:
                await self._raise_for_status(response)
                async for line in self._lines(response):
                    yield _parse(line, "a task's log")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(error) from error

    async def ping(self) -> None:
        """Return if Airflow's API server answers.

        Raises:
            AirflowError: it does not.
        """
        await self._call("GET", f"{self._api}/version", None)

    def _dag(self, dag_id: str) -> str:
        return f"{self._api}/dags/{quote(dag_id, safe='')}"

    def _run(self, dag_id: str, run_id: str) -> str:
        return f"{self._dag(dag_id)}/dagRuns/{quote(run_id, safe='')}"

    async def _call(self, method: str, url: str, token: str | None, *, body: bytes | None = None) -> dict[str, Any]:
        headers = _headers(token)
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=body,
                timeout=self._plain_timeout,
                allow_redirects=False,
            ) as response:
                await self._raise_for_status(response)
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(error) from error
        return _parse(text, f"{method} {URL(url, encoded=True).path}")

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the lines of a stream; aiohttp's own reader gives up on lines that an output easily exceeds."""
        buffer = bytearray()
        async for chunk in response.content.iter_any():
            start = len(buffer)
            buffer += chunk
            while (end := buffer.find(b"\n", start)) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                start = 0
                if line.strip():
                    yield line
            if len(buffer) > self._max_output:
                raise TooLargeError(
                    f"Airflow sent a line of more than {self._max_output} bytes, and the gateway's "
                    "MAX_OUTPUT_BYTES allows no more. Let the workflow return a reference to large data."
                )
        if buffer.strip():
            yield bytes(buffer)

    async def _raise_for_status(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if status in {HTTPStatus.OK, HTTPStatus.CREATED}:
            return
        reason = _reason(await response.read())
        if status == HTTPStatus.UNAUTHORIZED and "authorization" in response.request_info.headers:
            raise TokenRefusedError(reason)
        if status == HTTPStatus.FORBIDDEN and reason == _INVALID_TOKEN:
            raise TokenRefusedError(reason)
        if status in _AWAY | _BUSY:
            message = f"Airflow at {self._base} answered {status}: {reason}"
            raise UnavailableError(message, sent=True, again=status in _AWAY)
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RefusedError(status, reason)
        message = f"Airflow at {self._base} answered {status}: {reason}"
        if status != HTTPStatus.INTERNAL_SERVER_ERROR:
            raise BrokenError(message)
        if await self._has_its_database():
            raise FaultError(message)
        raise UnavailableError(f"{message}. It has lost its database, or does not say.", sent=True, again=True)

    async def _has_its_database(self) -> bool:
        """Return whether Airflow reaches its database: a 500 for that looks like one for a fault of its own.

        An API server that does not say waits for its database, or is on its way out.
        """
        try:
            async with self._session.get(
                URL(f"{self._api}/monitor/health", encoded=True), timeout=self._plain_timeout, allow_redirects=False
            ) as response:
                health = await response.json()
            return bool(health["metadatabase"]["status"] != "unhealthy")
        except (aiohttp.ContentTypeError, ValueError, KeyError, TypeError):
            return True
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def _unavailable(self, error: Exception) -> UnavailableError:
        nowhere = f"No connection to Airflow at {self._base}"
        if isinstance(error, aiohttp.ClientConnectorError):
            # A certificate that is not trusted now is not trusted a second later either.
            again = not isinstance(error, aiohttp.ClientSSLError)
            return UnavailableError(f"{nowhere}: {error.strerror or error}.", again=again)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return UnavailableError(f"{nowhere} within {self._plain_timeout.sock_connect:g} s.", again=True)
        if isinstance(error, TimeoutError | asyncio.TimeoutError):
            # As of a node that died, or of an API server that waits for its database and answers nobody meanwhile.
            message = f"Airflow at {self._base} did not answer within {self._timeout:g} s."
        else:
            message = f"The connection to Airflow at {self._base} broke ({type(error).__name__})."
        return UnavailableError(message, sent=True, again=True)


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _parse(text: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BrokenError(
            f"Airflow's answer to {what} is no JSON object. Is AIRFLOW_URL the URL of an Airflow 3 API server?"
        )
    return value


def _text(answer: dict[str, Any], name: str, what: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise BrokenError(f"Airflow's answer to {what} lacks {name!r}.")
    return value


def _objects(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = answer.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BrokenError(f"Airflow's answer lacks the list {name!r}.")
    return items


def _reason(body: bytes) -> str:
    """Return the reason in an error answer of Airflow, whatever shape it has."""
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        return text.strip()[:_LONGEST_DETAIL] or "no reason given"
    detail = value.get("detail", value) if isinstance(value, dict) else value
    if isinstance(detail, list):
        # FastAPI's account of a request that does not fit its model.
        detail = "; ".join(str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in detail)
    if isinstance(detail, dict) and "reason" in detail:
        detail = detail["reason"]
    return str(detail)[:_LONGEST_DETAIL]
