"""Starting runs of workflows and waiting for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.gateway.airflow import BrokenError, RefusedError, UnavailableError
from airflow_knative.gateway.identifiers import idempotent_run_id, new_run_id
from airflow_knative.gateway.payload import same_value
from airflow_knative.gateway.problems import ProblemError

if TYPE_CHECKING:
    from airflow_knative.gateway.airflow import Airflow, Answer
    from airflow_knative.gateway.auth import Caller
    from airflow_knative.gateway.pace import Pace

__all__ = ["Run", "Runner", "refused"]

# A run that is still queued after so long may belong to a DAG that somebody paused.
_SUSPICIOUS: Final = 2.0
_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class Run:
    """One run of a workflow, as far as the gateway knows it."""

    dag_id: str
    run_id: str
    state: str
    version: str | None
    """Id of the DAG version that it runs, None if Airflow does not tell."""
    replayed: bool = False
    """Whether an earlier call with the same idempotency key started it."""
    started: float = field(default_factory=time.monotonic)
    """When the gateway began with it, on the monotonic clock."""
    start_date: str | None = None
    end_date: str | None = None
    results: dict[str, Any] = field(default_factory=dict)
    """What the DAG returned, by task id."""
    wrapped: bool = False
    """Whether there may be values among the results that the task SDK wrapped."""

    @property
    def location(self) -> dict[str, Any]:
        """The extension members that name this run in an answer."""
        return {"dag_id": self.dag_id, "run_id": self.run_id}


class Runner:
    """Starts runs and waits for them, for all calls of the process.

    Args:
        airflow: Where they run.
        pace: When they are looked at.
        unpause: Whether a paused DAG that is called may be unpaused.
        unpaused_ttl: Seconds for which a DAG that was seen unpaused is not looked at again.
    """

    def __init__(self, airflow: Airflow, pace: Pace, *, unpause: bool, unpaused_ttl: float) -> None:
        self._airflow = airflow
        self._pace = pace
        self._unpause = unpause
        self._unpaused_ttl = unpaused_ttl
        self._unpaused: dict[str, float] = {}

    async def admit(self, caller: Caller, dag_id: str) -> None:
        """Return if Airflow knows the caller, before anything is taken from them.

        Raises:
            ProblemError: Airflow does not, or has no such DAG for them.
        """
        try:
            await caller.authenticate(lambda token: self._is_paused(token, dag_id))
        except RefusedError as error:
            raise refused(error, f"look at workflow {dag_id!r}", dag_id=dag_id) from error

    async def start(self, caller: Caller, dag_id: str, data: bytes, key: str | None) -> Run:
        """Start a run, or find the one that an earlier call with this idempotency key started.

        Args:
            caller: Who starts it.
            dag_id: The DAG.
            data: The input as JSON text.
            key: The idempotency key.

        Raises:
            ProblemError: Airflow or the caller's rights do not allow it, or the key belongs to another input.
        """
        began = time.monotonic()
        run_id = new_run_id() if key is None else idempotent_run_id(await caller.identity(), dag_id, key)
        await self._ensure_unpaused(caller, dag_id)
        sent = existed = False

        async def trigger(token: str) -> dict[str, Any]:
            nonlocal sent, existed
            if sent:
                # It may have started the run; and an Airflow with more to do than it can has to answer a question
                # before it is given more to do.
                with contextlib.suppress(RefusedError):
                    run = await self._airflow.run(token, dag_id, run_id)
                    existed = True
                    return run
            try:
                return await self._airflow.trigger(token, dag_id, run_id, data)
            except UnavailableError as error:
                sent = sent or error.sent
                raise

        try:
            account = await caller.call(trigger)
        except UnavailableError as error:
            if not sent:
                raise
            detail = f"{error} Whether it has started run {run_id!r} is not known: GET /runs/{dag_id}/{run_id} tells."
            raise ProblemError(
                "airflow-unavailable", detail, headers={"retry-after": "1"}, dag_id=dag_id, run_id=run_id
            ) from error
        except RefusedError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise _trigger_refused(error, dag_id) from error
            account = await self._account(caller, dag_id, run_id)
            existed = True
        if existed and key is not None and not same_value(account.get("conf"), {"data": json.loads(data)}):
            raise ProblemError(
                "idempotency-key-reused",
                f"This Idempotency-Key has started run {run_id!r} of {dag_id!r} with another input. "
                "Send the same input to get that run's answer, or use a new key.",
                dag_id=dag_id,
                run_id=run_id,
            )
        run = _run_of(account, dag_id, run_id)
        run.started = began
        # After a trigger whose answer was lost this is most likely the run that it started. One that another call with
        # the key started just then looks the same, and is the run of this key, too.
        run.replayed = existed and key is not None and not sent
        return run

    async def look(self, caller: Caller, dag_id: str, run_id: str) -> Run:
        """Return a run as it is now, with its results if it has succeeded.

        Raises:
            ProblemError: there is no such run, or the caller may not see it.
        """
        run = _run_of(await self._account(caller, dag_id, run_id), dag_id, run_id)
        if run.state == "success":
            await self.finish(caller, run)
        return run

    async def finish(self, caller: Caller, run: Run) -> None:
        """Return when the run has ended, with its results if it has succeeded. Whoever calls this sets the time limit.

        Raises:
            ProblemError: the run was deleted, or its DAG was paused before it began.
            UnavailableError: Airflow stays away.
        """
        if run.state == "failed":
            return
        fresh = run.state != "success" and not run.replayed
        if fresh:
            await asyncio.sleep(self._pace.head_start(run.dag_id) - (time.monotonic() - run.started))
        self._pace.waiting += 1
        try:
            await self._watch(caller, run)
        finally:
            self._pace.waiting -= 1
        if fresh and run.state == "success":
            self._pace.learn(run.dag_id, time.monotonic() - run.started)

    async def _watch(self, caller: Caller, run: Run) -> None:
        while True:
            try:
                if await self._watch_once(caller, run):
                    return
            except RefusedError as error:
                raise refused(error, f"wait for run {run.run_id!r} of {run.dag_id!r}", **run.location) from error
            if run.state == "queued" and time.monotonic() - run.started > _SUSPICIOUS:
                await self._ensure_still_unpaused(caller, run)

    async def _watch_once(self, caller: Caller, run: Run) -> bool:
        """Wait with one interval, for as long as that is the right one. Return whether the run has ended."""
        age = time.monotonic() - run.started
        interval = self._pace.interval(age)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as lease:

                def seen(state: str) -> None:
                    run.state = state
                    if lease.when() is None:
                        # It counts from the first answer on: a slow one must not be asked for again and again.
                        lease.reschedule(loop.time() + self._pace.lease(age))

                async def wait(token: str) -> Answer | None:
                    try:
                        return await self._airflow.wait(token, run.dag_id, run.run_id, interval=interval, seen=seen)
                    except UnavailableError:
                        if lease.when() is None:
                            raise
                    # Airflow was there. If it is away now, patience with that begins at the next wait.
                    await asyncio.sleep(interval)
                    return None

                answer = await caller.call(wait)
        except TimeoutError:
            return False
        if answer is None:
            return False
        run.state, run.results, run.wrapped = answer
        return True

    async def _account(self, caller: Caller, dag_id: str, run_id: str) -> dict[str, Any]:
        try:
            return await caller.call(lambda token: self._airflow.run(token, dag_id, run_id))
        except RefusedError as error:
            raise refused(error, f"look at run {run_id!r} of {dag_id!r}", dag_id=dag_id, run_id=run_id) from error

    async def _ensure_unpaused(self, caller: Caller, dag_id: str) -> None:
        """Unpause the DAG if need be and allowed: Airflow accepts runs of a paused DAG, but does not begin them."""
        until = self._unpaused.get(dag_id)
        if until is not None and time.monotonic() < until:
            return
        try:
            if await caller.call(lambda token: self._is_paused(token, dag_id)):
                await self._unpause_for(caller, dag_id)
                self._remember_unpaused(dag_id)
        except RefusedError as error:
            raise refused(error, f"look at workflow {dag_id!r}", dag_id=dag_id) from error

    async def _is_paused(self, token: str, dag_id: str) -> bool:
        paused = await self._airflow.is_paused(token, dag_id)
        if not paused:
            self._remember_unpaused(dag_id)
        return paused

    def _remember_unpaused(self, dag_id: str) -> None:
        if len(self._unpaused) >= _REMEMBERED:
            self._unpaused.clear()
        self._unpaused[dag_id] = time.monotonic() + self._unpaused_ttl

    async def _ensure_still_unpaused(self, caller: Caller, run: Run) -> None:
        self._unpaused.pop(run.dag_id, None)
        try:
            await self._ensure_unpaused(caller, run.dag_id)
        except ProblemError as problem:
            problem.members.update(run.location)
            raise

    async def _unpause_for(self, caller: Caller, dag_id: str) -> None:
        if not self._unpause:
            raise ProblemError(
                "workflow-paused",
                f"Workflow {dag_id!r} is paused, and this gateway's UNPAUSE setting is false. "
                "Unpause it in Airflow, then call again.",
                dag_id=dag_id,
            )
        try:
            await caller.call(lambda token: self._airflow.unpause(token, dag_id))
        except RefusedError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            raise ProblemError(
                "workflow-paused",
                f"Workflow {dag_id!r} is paused, and Airflow does not let this caller unpause it. "
                "Ask somebody who may edit the DAG to unpause it, then call again.",
                dag_id=dag_id,
            ) from error


def refused(error: RefusedError, what: str, **members: Any) -> ProblemError:
    """Return the problem that a 4xx answer of Airflow becomes; `what` completes "to ..."."""
    if error.status == HTTPStatus.FORBIDDEN:
        detail = f"Airflow does not let this caller {what}: {error.reason}. Ask for the right in Airflow's roles."
        return ProblemError("forbidden", detail, **members)
    if error.status == HTTPStatus.NOT_FOUND:
        if "run_id" in members:
            detail = (
                f"Airflow has no run {members['run_id']!r} of workflow {members['dag_id']!r}; it may have been deleted."
            )
            return ProblemError("unknown-run", detail, **members)
        detail = (
            f"Airflow has no workflow {members['dag_id']!r}. Use the dag_id of a DAG in its dags folder; "
            "a new file takes a moment until Airflow has read it."
        )
        return ProblemError("unknown-workflow", detail, **members)
    detail = f"Airflow answered {error.status} to the request to {what}: {error.reason}"
    return ProblemError("airflow-error", detail, **members)


def _trigger_refused(error: RefusedError, dag_id: str) -> ProblemError:
    if error.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return refused(error, f"run workflow {dag_id!r}", dag_id=dag_id)
    # Airflow has one status for a workflow that cannot be run and for params that its schema does not allow.
    if "import errors" in error.reason or "does not allow manual runs" in error.reason:
        detail = f"Airflow does not run workflow {dag_id!r}: {error.reason}. Mend the DAG, then call again."
        return ProblemError("workflow-broken", detail, dag_id=dag_id)
    detail = f"Airflow refused the input of workflow {dag_id!r}: {error.reason}"
    return ProblemError("input-refused", detail, dag_id=dag_id)


def _run_of(account: dict[str, Any], dag_id: str, run_id: str) -> Run:
    versions = account.get("dag_versions")
    version = versions[-1].get("id") if isinstance(versions, list) and versions else None
    state = account.get("state")
    if not isinstance(state, str):
        raise BrokenError(f"Airflow's account of run {run_id!r} lacks its state.")
    return Run(dag_id, run_id, state, version, start_date=account.get("start_date"), end_date=account.get("end_date"))
