"""What the front of a worker asks and tells the Execution API.

With the standard library alone, and that late: the front starts before anything else of a worker, and nobody waits for
its imports. Everything here blocks: the front runs it in threads.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_knative.wire import TaskRequest

__all__ = ["ApiAwayError", "Verdict", "deliver", "heartbeat", "running"]

_TIMEOUT: Final = 10.0  # seconds
_NOT_OURS: Final = frozenset({401, 403, 404, 409, 410})


class Verdict(Enum):
    """What became of a heartbeat."""

    OURS = "ours"
    """The task instance is running behind the request's fence."""
    NOT_OURS = "not ours"
    """It is not, and will not be again."""
    UNKNOWN = "unknown"
    """The Execution API cannot be reached, or cannot tell now."""


class ApiAwayError(Exception):
    """The Execution API cannot be reached, or cannot work now."""


def heartbeat(request: TaskRequest) -> tuple[Verdict, str]:
    """Heartbeat for a request's task instance, behind its fence; return the verdict and what it rests on."""
    try:
        status, body = _call(
            request, "PUT", f"/task-instances/{request.ti['id']}/heartbeat", body=request.fence.model_dump()
        )
    except ApiAwayError as error:
        return Verdict.UNKNOWN, str(error)
    verdict = Verdict.NOT_OURS if status in _NOT_OURS else Verdict.OURS if status < 300 else Verdict.UNKNOWN  # noqa: PLR2004
    return verdict, f"{status} {body.decode(errors='replace')}"


def running(request: TaskRequest, runs: Collection[str]) -> set[tuple[str, str]]:
    """Return which instances of a request's task are running in some of its DAG's runs: (run id, name with map index).

    Raises:
        ApiAwayError: nobody can tell now.
    """
    query = [("dag_id", request.ti["dag_id"]), ("task_ids", request.ti["task_id"]), *(("run_ids", run) for run in runs)]
    status, body = _call(request, "GET", "/task-instances/states", query=query)
    if status != 200:  # noqa: PLR2004
        raise ApiAwayError(f"{status} {body.decode(errors='replace')}")
    try:
        states: dict[str, dict[str, str | None]] = json.loads(body)["task_states"]
        return {(run, name) for run, of in states.items() for name, state in of.items() if state == "running"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ApiAwayError(f"It answered {body[:300]!r}, which holds no states.") from error


def deliver(request: TaskRequest, write: dict[str, Any]) -> None:
    """Bring the Execution API a recorded write; what it refuses is over.

    Raises:
        ApiAwayError: it can be tried again.
    """
    query = list(write.get("query", {}).items())
    _call(request, write["method"], write["path"], query=query, body=write.get("body"))


def _call(
    request: TaskRequest, method: str, path: str, *, query: Sequence[tuple[str, Any]] = (), body: Any = None
) -> tuple[int, bytes]:
    import http.client  # noqa: PLC0415

    api = urlsplit(request.execution_api.url)
    kind = http.client.HTTPSConnection if api.scheme == "https" else http.client.HTTPConnection
    connection = kind(api.hostname or "", api.port, timeout=_TIMEOUT)
    headers = {"authorization": f"Bearer {request.execution_api.token}", "airflow-api-version": request.api_version}
    if method in {"POST", "PUT", "PATCH"}:
        headers["content-type"] = "application/json"
    target = quote(f"{api.path.rstrip('/')}{path}") + (f"?{urlencode(query)}" if query else "")
    try:
        connection.request(method, target, body=None if method == "GET" else json.dumps(body), headers=headers)
        response = connection.getresponse()
        status, answer = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ApiAwayError(repr(error)) from error
    finally:
        connection.close()
    if status >= 500:  # noqa: PLR2004
        raise ApiAwayError(f"{status} {answer[:300].decode(errors='replace')}")
    return status, answer
