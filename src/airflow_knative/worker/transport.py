"""The transport under the Task SDK's client: the Execution API as a journal.

Reads are answered from what the request carried, writes on the own task instance are recorded for the dispatcher to
replay. Everything else goes to the Execution API with the task instance's own token. A worker that lost its caller
sends all of it there.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import unquote, urlsplit

import httpx

from airflow_knative.wire import Beat, Missed, Record, Write
from airflow_knative.worker.known import KnownReads

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_knative.wire import TaskRequest

__all__ = ["JournalTransport"]

_FORWARD_TIMEOUT: Final = 30.0  # seconds
_NOT_OURS: Final = frozenset({404, 409, 410})
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class JournalTransport(httpx.BaseTransport):
    """Serves one task instance after another; `begin` comes before the first call of each."""

    def __init__(self, emit: Callable[[Record], None]) -> None:
        """Hand every record to `emit`."""
        self._emit = emit
        self._request: TaskRequest
        self._known: KnownReads
        self._own_writes: re.Pattern[str]
        self._base_path = ""
        self._api: httpx.BaseTransport | None = None
        self.writes: list[Write] = []
        self._flushed = {False: 0, True: 0}
        """Writes up to here went to the Execution API by this worker itself, too: XComs, all of them."""
        self.caller_lost = False
        self._is_own: bool | None = None
        """Whether the task instance is still this worker's; None until the Execution API said so."""

    def begin(self, request: TaskRequest) -> None:
        """Serve this task instance from now on."""
        self._request = request
        self._known = KnownReads(request)
        self._base_path = urlsplit(request.execution_api.url).path.rstrip("/")
        ti = request.ti
        own_xcom = "/".join(re.escape(str(ti[part])) for part in ("dag_id", "run_id", "task_id"))
        self._own_writes = re.compile(
            rf"/task-instances/{re.escape(str(ti['id']))}/(state|rtif|skip-downstream|rendered-map-index)"
            rf"|/xcoms/{own_xcom}/.+"
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one call of the Task SDK."""
        path = unquote(request.url.path).removeprefix(self._base_path)
        own = f"/task-instances/{self._request.ti['id']}"
        if path == f"{own}/run":
            return self._answer(200, self._request.context)
        if path == f"{own}/heartbeat":
            return self._heartbeat(request)
        query = dict(request.url.params)
        if request.method in _WRITES:
            if self._own_writes.fullmatch(path):
                return self._record(request, path, query)
            # Others may act on this write: what the task wrote before has to be there first.
            self.flush(request)
            self._known.outdate()
        elif (known := self._known.answer(request.method, path, query)) is not None:
            return self._answer(*known)
        else:
            if self._own_writes.fullmatch(path):
                self.flush(request)  # XComs of the own task: its part of the answer has to be there first
            self._emit(Missed(path=path))
        return self._forward(request)

    def flush(self, like: httpx.Request, *, states: bool = False) -> None:
        """Send the Execution API what was recorded so far; it takes the dispatcher's replay of the same in its stride.

        Args:
            like: a call whose credentials and version header to use.
            states: whether writes beyond XComs are sent too.

        Raises:
            httpx.HTTPError: the API cannot be reached, or cannot work now. What has not got there goes with the next
                call.
        """
        for write in self.writes[self._flushed[states] :]:
            if states or write.path.startswith("/xcoms/"):
                url = httpx.URL(self._request.execution_api.url).copy_with(
                    path=self._base_path + write.path, params=write.query
                )
                headers = {
                    name: like.headers[name]
                    for name in ("authorization", "airflow-api-version")
                    if name in like.headers
                }
                request = httpx.Request(write.method, url, json=write.body, headers=headers)
                _raise_if_away(self._forward(request), request)
            self._flushed[states] += 1

    def _heartbeat(self, request: httpx.Request) -> httpx.Response:
        if not self.caller_lost:
            self._emit(Beat())
            return self._answer(204)
        fence = self._request.fence.model_dump()
        response = self._forward(httpx.Request(request.method, request.url, json=fence, headers=_without_body(request)))
        response.read()
        if response.is_success:
            self._is_own = True
            with contextlib.suppress(httpx.HTTPError):  # the next one may get it there
                self.flush(request, states=True)
        elif response.status_code in _NOT_OURS:
            self._is_own = False
        return response

    def report(self, heartbeat: httpx.Request) -> None:
        """After the end of a task without a caller, bring the Execution API what it has not got, if it is to have it.

        Args:
            heartbeat: what to ask with whether the task instance is still this worker's: a write that was sent before
                may have taken effect although no answer came.

        Raises:
            httpx.HTTPError: the API cannot be reached, or cannot work now.
        """
        if self._is_own is False or self._flushed[True] == len(self.writes):
            return
        _raise_if_away(self._heartbeat(heartbeat), heartbeat)
        if self._is_own:
            self.flush(heartbeat, states=True)

    def _record(self, request: httpx.Request, path: str, query: dict[str, str]) -> httpx.Response:
        body = request.read()
        write = Write(
            seq=len(self.writes),
            method=cast("Literal['POST', 'PUT', 'PATCH', 'DELETE']", request.method),
            path=path,
            query=query,
            body=json.loads(body) if body else None,
        )
        self.writes.append(write)
        self._known.remember(write)
        self._emit(write)
        if self.caller_lost and self._is_own:
            with contextlib.suppress(httpx.HTTPError):  # it goes with the next heartbeat, or after the end
                self.flush(request, states=True)
        return self._answer(201, {"message": "recorded"}) if request.method == "POST" else self._answer(204)

    def _forward(self, request: httpx.Request) -> httpx.Response:
        if self._api is None:
            self._api = httpx.HTTPTransport(http1=True, retries=1)
        timeout = httpx.Timeout(_FORWARD_TIMEOUT, connect=5.0).as_dict()
        request.extensions = {**request.extensions, "timeout": timeout}
        return self._api.handle_request(request)

    def _answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        if body is None:
            return httpx.Response(status, headers=headers)
        return httpx.Response(status, json=body, headers=headers)

    def close(self) -> None:
        """Close the connections to the Execution API."""
        if self._api is not None:
            self._api.close()


def _raise_if_away(response: httpx.Response, request: httpx.Request) -> None:
    """Raise for an answer that says nothing about the task instance: the API has no database, or is being replaced."""
    response.read()
    if response.is_server_error:
        raise httpx.HTTPStatusError(
            f"The Execution API answered {response.status_code}.", request=request, response=response
        )


def _without_body(request: httpx.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name not in {"content-length", "content-type"}}
