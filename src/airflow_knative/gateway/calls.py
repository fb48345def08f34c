"""The calls of the gateway that reach Airflow."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from airflow_knative.gateway.accesslog import record_of
from airflow_knative.gateway.airflow import AirflowError, TooLargeError, UnavailableError
from airflow_knative.gateway.auth import Caller, parse_authorization
from airflow_knative.gateway.bodies import read_json_body
from airflow_knative.gateway.failures import failed_tasks, summary
from airflow_knative.gateway.identifiers import checked_dag_id, checked_run_id, parse_idempotency_key
from airflow_knative.gateway.patience import Patience
from airflow_knative.gateway.payload import compact, input_text
from airflow_knative.gateway.preferences import parse_prefer
from airflow_knative.gateway.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.requests import Request
    from starlette.types import Receive

    from airflow_knative.gateway.accesslog import CallRecord
    from airflow_knative.gateway.airflow import Airflow
    from airflow_knative.gateway.auth import Basic, Bearer, TokenCache
    from airflow_knative.gateway.deadlines import Deadlines
    from airflow_knative.gateway.outputs import Outputs
    from airflow_knative.gateway.runs import Run, Runner
    from airflow_knative.gateway.settings import Settings

__all__ = ["Calls", "closed_by_caller"]

RUN_ID_HEADER: Final = "airflow-run-id"
REPLAYED_HEADER: Final = "idempotency-replayed"
_RETRY_AFTER: Final = {"retry-after": "1"}
_CLIENT_CLOSED_REQUEST: Final = 499


class _Limit:
    """Calls of one kind at once: each is a ``with`` block.

    Args:
        most: as many as there may be.
        refusal: what one more is told, with a place for their number.
    """

    def __init__(self, most: int, refusal: str) -> None:
        self._most = most
        self._refusal = refusal
        self.count = 0

    def __enter__(self) -> None:
        if self.count >= self._most:
            raise ProblemError("overloaded", self._refusal.format(self.count), headers=_RETRY_AFTER)
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class Calls:
    """Answers the calls that reach Airflow.

    Args:
        settings: The gateway's settings.
        airflow: The Airflow that runs the workflows.
        tokens: Airflow tokens of the callers.
        runner: Starts runs and waits for them.
        outputs: Finds what they returned.
        deadlines: How long calls may wait.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        airflow: Airflow,
        tokens: TokenCache,
        runner: Runner,
        outputs: Outputs,
        deadlines: Deadlines,
    ) -> None:
        self._settings = settings
        self._airflow = airflow
        self._tokens = tokens
        self._runner = runner
        self._outputs = outputs
        self._deadlines = deadlines
        most = settings.max_concurrency
        self._under_way = _Limit(
            most,
            "The gateway has {} workflow calls under way, and its MAX_CONCURRENCY allows no more. "
            "Call again later, or send 'Prefer: respond-async', which takes a place for a moment only.",
        )
        self._looking = _Limit(
            most, "The gateway shows {} runs now, and its MAX_CONCURRENCY allows no more. Ask again later."
        )

    async def run_workflow(self, request: Request) -> Response:
        """Answer `POST /runWorkflow/<dag_id>`."""
        credentials = _credentials(request)
        record = record_of(request)
        dag_id = record.dag_id = checked_dag_id(request.path_params["dag_id"])
        with self._under_way:
            return await self._run_workflow(request, record, credentials, dag_id)

    async def show_run(self, request: Request) -> Response:
        """Answer `GET /runs/<dag_id>/<run_id>`."""
        credentials = _credentials(request)
        record = record_of(request)
        dag_id = record.dag_id = checked_dag_id(request.path_params["dag_id"])
        run_id = record.run_id = checked_run_id(dag_id, request.path_params["run_id"])
        with self._looking:
            return await self._show_run(credentials, dag_id, run_id)

    async def _show_run(self, credentials: Basic | Bearer, dag_id: str, run_id: str) -> Response:
        limit = self._settings.airflow_timeout
        until = asyncio.get_running_loop().time() + limit
        caller = Caller(credentials, self._tokens, self._patience(until=until))
        try:
            with _airflow_errors():
                async with self._deadlines.until(until):
                    run, shown = await self._shown(caller, dag_id, run_id)
        except TimeoutError:
            raise ProblemError(
                "airflow-unavailable",
                f"Airflow has not told all about run {run_id!r} of {dag_id!r} within {limit:g} s. Ask again.",
                headers=_RETRY_AFTER,
                dag_id=dag_id,
                run_id=run_id,
            ) from None
        return _json(shown, run, {"cache-control": "no-store"})

    async def _shown(self, caller: Caller, dag_id: str, run_id: str) -> tuple[Run, dict[str, Any]]:
        run = await self._runner.look(caller, dag_id, run_id)
        shown: dict[str, Any] = {
            **run.location,
            "state": run.state,
            "start_date": run.start_date,
            "end_date": run.end_date,
        }
        if run.state == "success":
            shown["output"] = await self._outputs.of(caller, run)
        elif run.state == "failed":
            tasks = await failed_tasks(self._airflow, caller, run)
            shown["detail"] = summary(run, tasks)
            shown["failed_tasks"] = tasks
        return run, shown

    async def _run_workflow(
        self, request: Request, record: CallRecord, credentials: Basic | Bearer, dag_id: str
    ) -> Response:
        began = asyncio.get_running_loop().time()
        preferences = parse_prefer(request.headers.getlist("prefer"))
        key = parse_idempotency_key(request.headers.getlist("idempotency-key"))
        limit = self._settings.wait_timeout
        if preferences.wait is not None:
            limit = min(limit, preferences.wait)
            preferences = preferences._replace(wait=int(limit))
        run = await self._start(request, credentials, dag_id, key, until=began + limit)
        record.run_id = run.run_id
        headers = {RUN_ID_HEADER: run.run_id}
        if (applied := preferences.applied()) is not None:
            headers["preference-applied"] = applied
        if run.replayed:
            headers[REPLAYED_HEADER] = "true"
        if preferences.respond_async and preferences.wait is None:
            return _accepted(run, headers)
        caller = Caller(credentials, self._tokens, self._patience())
        try:
            with _airflow_errors(run):
                async with _while_connected(request.receive), self._deadlines.until(began + limit):
                    await self._runner.finish(caller, run)
                    if run.state == "success":
                        output = await self._outputs.of(caller, run)
                        return _json({"output": output}, run, headers)
                    tasks = await failed_tasks(self._airflow, caller, run)
        except TimeoutError:
            if preferences.respond_async:
                return _accepted(run, headers)
            raise self._gave_up(run, limit, headers) from None
        raise ProblemError(
            "run-failed", summary(run, tasks), headers=headers, **run.location, state=run.state, failed_tasks=tasks
        )

    async def _start(
        self, request: Request, credentials: Basic | Bearer, dag_id: str, key: str | None, *, until: float
    ) -> Run:
        """Start the run that is asked for, or find the one that was started with the same key.

        Nothing is read of the body, which fills memory, before Airflow knows the caller. No variable keeps it: what
        comes may take long.
        """
        if not self._tokens.knows(credentials):
            with _airflow_errors():
                await self._runner.admit(Caller(credentials, self._tokens, self._patience(until=until)), dag_id)
        body = read_json_body(request, limit=self._settings.max_body_bytes)
        # Nothing cuts the start of a run short, for then nobody would know whether there is one: patience has an end.
        patience = self._patience(until=until, hung_up=request.is_disconnected)
        caller = Caller(credentials, self._tokens, patience)
        with _airflow_errors():
            return await self._runner.start(caller, dag_id, input_text(await body), key)

    def _patience(
        self, *, until: float | None = None, hung_up: Callable[[], Awaitable[bool]] | None = None
    ) -> Patience:
        return Patience(self._settings.airflow_patience, self._deadlines, until, hung_up)

    def _gave_up(self, run: Run, limit: float, headers: dict[str, str]) -> ProblemError:
        where = _location(run)
        goes_on = f"It goes on in Airflow: ask for it with GET {where}."
        members: dict[str, Any] = {**run.location, "state": run.state, "location": where}
        if self._deadlines.draining:
            detail = f"The gateway shuts down and can no longer wait for run {run.run_id!r}. {goes_on}"
            return ProblemError("shutting-down", detail, headers=headers | _RETRY_AFTER, **members)
        detail = f"Run {run.run_id!r} of workflow {run.dag_id!r} has not ended within {limit:g} s. {goes_on}"
        return ProblemError("wait-ended", detail, headers=headers, **members)


def _credentials(request: Request) -> Basic | Bearer:
    return parse_authorization(request.headers.get("authorization"))


@asynccontextmanager
async def _while_connected(receive: Receive) -> AsyncIterator[None]:
    """Stop the body when the caller hangs up. Its run goes on in Airflow, only nobody waits for it any more.

    Raises:
        ClientDisconnect: the caller hung up.
    """
    waiting = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        if waiting is not None:
            waiting.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and waiting is not None and waiting.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()


@contextmanager
def _airflow_errors(run: Run | None = None) -> Iterator[None]:
    """Turn what goes wrong at Airflow into problems."""
    members: dict[str, Any] = {} if run is None else run.location
    where = "" if run is None else f" The run goes on in Airflow: ask for it with GET {_location(run)}."
    try:
        yield
    except UnavailableError as error:
        raise ProblemError("airflow-unavailable", f"{error}{where}", headers=_RETRY_AFTER, **members) from error
    except TooLargeError as error:
        raise ProblemError("output-unusable", f"{error}{where}", **members) from error
    except AirflowError as error:
        raise ProblemError("airflow-error", f"{error}{where}", **members) from error


def _location(run: Run) -> str:
    return f"/runs/{quote(run.dag_id, safe='')}/{quote(run.run_id, safe='')}"


def _accepted(run: Run, headers: dict[str, str]) -> Response:
    where = _location(run)
    body = compact({**run.location, "state": run.state, "location": where})
    return Response(body, HTTPStatus.ACCEPTED, headers | {"location": where}, "application/json")


def _json(value: dict[str, Any], run: Run, headers: dict[str, str]) -> Response:
    try:
        body = compact(value)
    except ValueError as error:
        detail = f"The output of run {run.run_id!r} is no JSON: {error}. Let the workflow return JSON values."
        raise ProblemError("output-unusable", detail, headers=headers, **run.location) from error
    return Response(body, HTTPStatus.OK, headers, "application/json")


def closed_by_caller() -> Response:
    """Return what the access log shows of a call whose caller hung up; nobody reads it."""
    return Response(status_code=_CLIENT_CLOSED_REQUEST)
