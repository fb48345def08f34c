"""Airflow's database as the dispatcher uses it: the Execution API's own route functions, in this process.

The route functions are called with a session of ours instead of through HTTP: a call costs a quarter, and what belongs
together is one transaction. They skip the API's authorisation, which is why `journal` checks every write before.
Everything here blocks: the dispatcher runs it in threads.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from airflow.api_fastapi.execution_api.app import _jwt_generator
from airflow.api_fastapi.execution_api.datamodels.taskinstance import TIEnterRunningPayload
from airflow.api_fastapi.execution_api.datamodels.token import TIClaims, TIToken
from airflow.api_fastapi.execution_api.routes.task_instances import ti_run
from airflow.executors.base_executor import get_execution_api_server_url
from airflow.models.dagbag import DBDagBag
from airflow.models.taskinstance import TaskInstance
from airflow.sdk.api.client import get_hostname, getuser
from airflow.sdk.api.datamodels._generated import API_VERSION
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from fastapi import HTTPException, Response
from sqlalchemy import select, tuple_, update

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.executor.claims import held_mark, is_unclaimed
from airflow_knative.executor.inputs import read_inputs
from airflow_knative.executor.journal import apply_write
from airflow_knative.executor.prewarm_read import RunReader
from airflow_knative.wire import ExecutionApi, Fence, TaskRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.api_fastapi.auth.tokens import JWTGenerator
    from sqlalchemy.orm import Session

    from airflow_knative.executor.inputs import Declared
    from airflow_knative.executor.journal import Owner
    from airflow_knative.executor.prewarm_plan import Node, Progress
    from airflow_knative.wire import Write

__all__ = ["Beat", "Database", "FencedOffError", "NotRunnableError", "Sighting"]

# A fence is a number where Airflow keeps the pid of a supervisor: no process has one beyond PID_MAX_LIMIT (proc(5)).
_FENCES: Final = range(1 << 22, 1 << 31)
_UNSYNCHRONISED: Final[dict[str, Any]] = {"execution_options": {"synchronize_session": False}}


class NotRunnableError(AirflowKnativeError):
    """The task instance is not queued any more, so it is not this call's to run."""

    def __init__(self, state: str | None) -> None:
        """Keep the state it is in; None if it is gone."""
        super().__init__(f"The task instance is {state or 'gone'}, not queued.")
        self.state = state


class FencedOffError(AirflowKnativeError):
    """The task instance is not running behind this call's fence any more."""


@dataclass(frozen=True)
class Beat:
    """What a call's heartbeat goes by."""

    ti_id: str
    fence: Fence
    held: datetime | None
    """Its last heartbeat, if the request is held (`claims`)."""


@dataclass(frozen=True)
class Sighting:
    """A task instance as the database has it."""

    ti_id: UUID
    """Another one than was asked about, if that try is over."""
    state: str | None
    fence: Fence | None
    last_heartbeat: datetime | None


class Database:
    """What the dispatcher asks of Airflow's database."""

    def __init__(self, *, max_inline_bytes: int) -> None:
        """Send at most `max_inline_bytes` bytes of XComs along with a request."""
        self._dag_bag = DBDagBag()
        self._tokens: JWTGenerator = _jwt_generator()
        self._max_inline_bytes = max_inline_bytes
        self._api_url = get_execution_api_server_url()
        self._hostname = get_hostname()
        self._runs = RunReader(self._dag_bag)

    def new_fence(self) -> Fence:
        """Return a fence that no other turn of a task instance has."""
        return Fence(hostname=self._hostname, pid=_FENCES[secrets.randbelow(len(_FENCES))])

    def start(
        self,
        workload: dict[str, Any],
        fence: Fence,
        *,
        held: datetime | None,
        again: bool,
        declared: Declared,
        valid_for: float,
    ) -> TaskRequest:
        """Move a queued task instance to running, behind `fence`, and gather what its worker needs.

        A second call with the same fence finds the work of the first: after a lost connection it may be repeated.

        Args:
            workload: `ExecuteTask`, as JSON.
            fence: a new one.
            held: the time to hold the request at (`claims`), None for one that a worker may start unasked.
            again: whether to take a running task instance, too, if its earlier request surely was not started.
            declared: Variables and Connections to send along.
            valid_for: seconds that the worker's token is valid.

        Raises:
            NotRunnableError: it is not queued.
        """
        ti = workload["ti"]
        ti_id = UUID(ti["id"])
        payload = TIEnterRunningPayload(
            state=TaskInstanceState.RUNNING,
            hostname=fence.hostname,
            unixname=getuser(),
            pid=fence.pid,
            start_date=datetime.now(UTC),
        )
        token = TIToken(id=ti_id, claims=TIClaims(scope="execution"))
        with create_session(scoped=False) as session:
            if again:
                self._take_unclaimed(session, ti_id, fence)
            try:
                context = ti_run(ti_id, payload, Response(), session, self._dag_bag, services=None, token=token)
            except HTTPException as error:
                detail: dict[str, Any] = error.detail if isinstance(error.detail, dict) else {}
                raise NotRunnableError(detail.get("previous_state")) from error
            marks: dict[str, Any] = {"external_executor_id": None}
            if held is not None:
                marks = {"external_executor_id": held_mark(held), "last_heartbeat_at": held}
            session.execute(update(TaskInstance).where(TaskInstance.id == ti_id).values(**marks), **_UNSYNCHRONISED)
            inputs = read_inputs(session, self._dag_bag, ti, declared=declared, max_bytes=self._max_inline_bytes)
        return TaskRequest(
            turn=str(uuid4()),
            claim=held is not None,
            ti={name: value for name, value in ti.items() if name not in {"pool_slots", "priority_weight"}},
            dag_rel_path=str(workload["dag_rel_path"]),
            bundle_name=workload["bundle_info"]["name"],
            bundle_version=workload["bundle_info"]["version"],
            context=context.model_dump(mode="json", exclude_unset=True),
            api_version=API_VERSION,
            inputs=inputs,
            execution_api=ExecutionApi(
                url=self._api_url,
                token=self._tokens.generate(extras={"sub": str(ti_id), "scope": "execution"}, valid_for=valid_for),
            ),
            fence=fence,
            sentry_integration=workload.get("sentry_integration", ""),
        )

    def _take_unclaimed(self, session: Session, ti_id: UUID, fence: Fence) -> None:
        """Put `fence` before a running task instance whose request nobody claimed; *run* then takes it for ours."""
        row = session.execute(
            select(TaskInstance.state, TaskInstance.external_executor_id, TaskInstance.last_heartbeat_at)
            .where(TaskInstance.id == ti_id)
            .with_for_update()
        ).one_or_none()
        if row is not None and row[0] == TaskInstanceState.RUNNING and is_unclaimed(row[1], row[2]):
            session.execute(
                update(TaskInstance)
                .where(TaskInstance.id == ti_id)
                .values(hostname=fence.hostname, unixname=getuser(), pid=fence.pid),
                **_UNSYNCHRONISED,
            )

    def apply(self, owner: Owner, fence: Fence, writes: Sequence[Write], *, settled: bool) -> bool:
        """Replay writes of a task instance in one transaction; True if one of them settled its state.

        The row is locked first: writes of a task instance that is no longer running behind `fence` change nothing.
        After its state is `settled` by an earlier write, it may still add XComs and rendered fields. Writes that may
        have taken effect already are replayed again without harm.

        Raises:
            FencedOffError: it is not.
            WriteRefusedError: the Execution API refuses one of the writes; none has taken effect.
        """
        settles = False
        with create_session(scoped=False) as session:
            row = session.execute(
                select(TaskInstance.state, TaskInstance.hostname, TaskInstance.pid)
                .where(TaskInstance.id == owner.ti_id)
                .with_for_update()
            ).one_or_none()
            is_ours = row is not None and tuple(row[1:]) == (fence.hostname, fence.pid)
            if row is None or not is_ours or not (settled or row[0] in _states_before(writes)):
                raise FencedOffError(f"The task instance is {row and row[0]}, or runs elsewhere by now.")
            for write in writes:
                settles |= apply_write(session, self._dag_bag, owner, write)
        return settles

    def read_run(self, dag_id: str, run_id: str) -> tuple[dict[str, Node], dict[str, Progress]] | None:
        """Return a run's tasks and how far each has got; None if the run is over or gone."""
        with create_session(scoped=False) as session:
            return self._runs.read(session, dag_id, run_id)

    def heartbeat(self, beats: Iterable[Beat]) -> tuple[set[str], dict[str, datetime]]:
        """Heartbeat for all at once; return the ids of those that are not running behind their fence, and of the held.

        A held request stays so only if nobody has heartbeated the task instance but its dispatcher.
        """
        beats, now = list(beats), datetime.now(UTC)
        with create_session(scoped=False) as session:
            held = self._beat(
                session,
                {UUID(beat.ti_id): beat.fence for beat in beats if beat.held},
                [(UUID(beat.ti_id), beat.held) for beat in beats if beat.held],
                {"last_heartbeat_at": now, "external_executor_id": held_mark(now)},
            )
            others = {UUID(beat.ti_id): beat.fence for beat in beats if beat.ti_id not in held}
            alive = self._beat(session, others, None, {"last_heartbeat_at": now})
        return {beat.ti_id for beat in beats} - held - alive, dict.fromkeys(held, now)

    def _beat(
        self,
        session: Session,
        fences: dict[UUID, Fence],
        unchanged: list[tuple[UUID, datetime]] | None,
        values: dict[str, Any],
    ) -> set[str]:
        """Write to those that run behind their fences and have the heartbeats in `unchanged`; return their ids."""
        if not fences:
            return set()
        query = update(TaskInstance).where(
            TaskInstance.state == TaskInstanceState.RUNNING,
            TaskInstance.hostname == self._hostname,
            tuple_(TaskInstance.id, TaskInstance.pid).in_([(ti_id, fence.pid) for ti_id, fence in fences.items()]),
        )
        if unchanged is not None:
            query = query.where(tuple_(TaskInstance.id, TaskInstance.last_heartbeat_at).in_(unchanged))
        alive = session.scalars(query.values(**values).returning(TaskInstance.id), **_UNSYNCHRONISED).all()
        return {str(ti_id) for ti_id in alive}

    def hold(self, owner: Owner, fence: Fence, at: datetime) -> bool:
        """Hold a request that surely was not started (`claims`); True if `fence` is still the task instance's."""
        with create_session(scoped=False) as session:
            return bool(
                self._beat(
                    session,
                    {owner.ti_id: fence},
                    None,
                    {"last_heartbeat_at": at, "external_executor_id": held_mark(at)},
                )
            )

    def serves_others(self, owner: Owner, *, since: datetime, whole_dag: bool) -> bool:
        """Whether workers heartbeated for other instances of the owner's task, or of its `whole_dag`, since a time.

        The heartbeats of a dispatcher for what it holds do not count.
        """
        query = select(TaskInstance.external_executor_id, TaskInstance.last_heartbeat_at).where(
            TaskInstance.dag_id == owner.dag_id,
            TaskInstance.last_heartbeat_at > since,
            TaskInstance.id != owner.ti_id,
        )
        if not whole_dag:
            query = query.where(TaskInstance.task_id == owner.task_id)
        with create_session(scoped=False) as session:
            return not all(is_unclaimed(mark, heartbeat) for mark, heartbeat in session.execute(query))

    def look(self, owner: Owner) -> Sighting | None:
        """Return the task instance as it is now, its newest try; None if it is gone."""
        with create_session(scoped=False) as session:
            row = session.execute(
                select(
                    TaskInstance.id,
                    TaskInstance.state,
                    TaskInstance.hostname,
                    TaskInstance.pid,
                    TaskInstance.last_heartbeat_at,
                ).where(
                    TaskInstance.dag_id == owner.dag_id,
                    TaskInstance.run_id == owner.run_id,
                    TaskInstance.task_id == owner.task_id,
                    TaskInstance.map_index == owner.map_index,
                )
            ).one_or_none()
        if row is None:
            return None
        fence = Fence(hostname=row[2], pid=row[3]) if row[2] and row[3] is not None else None
        return Sighting(ti_id=row[0], state=row[1], fence=fence, last_heartbeat=row[4])

    def fence_off(self, owner: Owner, fence: Fence) -> bool:
        """Take a running task instance from whoever runs it as `fence`; True if it was theirs.

        Its worker learns it at the next heartbeat and stops; its writes are refused from now on.
        """
        with create_session(scoped=False) as session:
            taken = session.scalars(
                update(TaskInstance)
                .where(
                    TaskInstance.id == owner.ti_id,
                    TaskInstance.state == TaskInstanceState.RUNNING,
                    tuple_(TaskInstance.hostname, TaskInstance.pid) == (fence.hostname, fence.pid),
                )
                .values(pid=0)
                .returning(TaskInstance.id),
                **_UNSYNCHRONISED,
            ).all()
        return bool(taken)


def _states_before(writes: Sequence[Write]) -> set[str]:
    """Return the states in which `writes` may find their task instance: running, or as they left it the last time."""
    bodies = [write.body for write in writes if write.is_state]
    left = {str(body["state"]) for body in bodies if isinstance(body, dict) and "state" in body}
    return {TaskInstanceState.RUNNING, *left}
