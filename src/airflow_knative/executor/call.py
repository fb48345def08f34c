"""The life of one task instance in the dispatcher: start it, send it, take in its answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.configuration import conf
from sqlalchemy.exc import DBAPIError

from airflow_knative.executor.database import Beat, FencedOffError, NotRunnableError
from airflow_knative.executor.endpoints import NoEndpointError
from airflow_knative.executor.journal import ForeignWriteError, Owner, WriteRefusedError, check_write
from airflow_knative.executor.outcome import Outcome, Result
from airflow_knative.executor.stream import BrokenOffError, BusyError, NotStartedError, RefusedError
from airflow_knative.executor.tasklog import TaskLog
from airflow_knative.executor.waiting import Waiting
from airflow_knative.wire import Finished, LogLine, Missed, Started, WireError, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_knative.errors import AirflowKnativeError
    from airflow_knative.executor.context import Context
    from airflow_knative.executor.endpoints import Endpoint
    from airflow_knative.wire import Fence, Record, TaskRequest

__all__ = ["Call", "follow"]

_log = logging.getLogger(__name__)

_TOKEN_MARGIN: Final = 300.0  # seconds a worker's token outlives its service's timeout
_SIGNATURE_MARGIN: Final = 60.0  # seconds a signature outlives the time for which a request may wait
_KILLED: Final = 6.0  # seconds until a task is gone that is to stop: Airflow's supervisor gives it 5 for its `on_kill`

# What can come of a request, besides a whole answer.
_EXPECTED: Final = (
    BrokenOffError,
    FencedOffError,
    ForeignWriteError,
    NoEndpointError,
    NotStartedError,
    RefusedError,
    WireError,
    WriteRefusedError,
)


async def follow(context: Context, ti: dict[str, Any], log_path: str | None) -> Result:
    """See a task instance through whose worker had another caller, which is gone."""
    result = await _await_report(context, Owner.of(ti), log_path)
    context.upload_log(log_path, ti)
    return result


async def _await_report(context: Context, owner: Owner, log_path: str | None) -> Result:
    """Wait for what a worker that nobody listens to reports by itself; its task's log says what becomes of it."""
    with TaskLog(log_path) as log:
        log.event(
            "warning", "The worker has lost its caller. What the task logs now is in the worker's own output only."
        )
    result = await context.watch(owner)
    if result.outcome is Outcome.STOPPED:  # which its worker learns at its next heartbeat
        await asyncio.sleep(conf.getfloat("workers", "min_heartbeat_interval") + _KILLED)
    if result.outcome is Outcome.FAILED:
        with TaskLog(log_path) as log:
            log.event("error", result.reason or "")
    return result


class Call:
    """One task instance from the executor's word to its end."""

    def __init__(self, context: Context, message: dict[str, Any]) -> None:
        """Run what `message` (`channel.RUN`) names."""
        self._context = context
        self._message = message
        self._ti: dict[str, Any] = message["workload"]["ti"]
        self.ti_id = str(self._ti["id"])
        self._owner = Owner.of(self._ti)
        self._task = self._owner.dag_id, self._owner.task_id
        self._stages: dict[str, float] = {"queued": message["queued"], "dispatched": time.time()}
        self._started: Started | None = None
        self._endpoint: Endpoint | None = None
        self._took = 0.0
        self._revision: str | None = None
        self._finished: Finished | None = None
        self._fence = context.database.new_fence()
        self._held: datetime | None = None
        self._is_changing = False
        self._made = time.monotonic()
        self._applier = _Applier(context, self._owner)
        self.last_heard = time.monotonic()
        """When the worker last said something; of interest while `is_listening`."""
        self.is_listening = False
        self.is_exposed = False
        """Whether nobody else can tell if the task instance was started: it is not held, and no worker has answered."""
        self._interrupted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def _service(self) -> str | None:
        return self._endpoint.name if self._endpoint else None

    @property
    def beat(self) -> Beat | None:
        """What to heartbeat with; None while that is about to change."""
        return None if self._is_changing else Beat(self.ti_id, self._fence, self._held)

    def take_beat(self, beat: Beat, *, is_lost: bool, held: datetime | None) -> None:
        """Take in what became of a heartbeat: whether the task instance is another's by now, or still held."""
        if beat.fence != self._fence:
            return  # it was started again meanwhile
        if is_lost:
            self.lose()
        elif self._held == beat.held:
            self._held = held

    def lose(self) -> None:
        """The task instance is not this call's any more: stop the worker."""
        if self._applier.is_settling:
            return  # it is not running because of what the worker itself wrote
        self._interrupt(FencedOffError("The task instance is no longer running here."))

    def give_up(self) -> None:
        """The worker has been silent for too long: leave it to prove itself to the Execution API."""
        self._interrupt(BrokenOffError(f"Nothing came from service {self._service} for too long."))

    def _interrupt(self, error: Exception) -> None:
        if not self._interrupted.done():
            self._interrupted.set_exception(error)

    async def run(self) -> Result:
        """See the task instance through."""
        if trouble := self._message.get("trouble"):
            return self._refuse(trouble)
        try:
            # In place of this dispatcher's predecessor, where that had started it already.
            request = await self._start(again=bool(self._message.get("again")))
        except NotRunnableError as error:
            self.is_exposed = False
            if error.state == "running" and self._message.get("again"):
                return await follow(self._context, self._ti, self._message["workload"]["log_path"])
            return Result(Outcome.SETTLED)
        self._stages["running"] = time.time()
        self._context.beating[self.ti_id] = self
        try:
            with TaskLog(self._message["workload"]["log_path"]) as log:
                try:
                    return await self._supervise(request, log)
                except Exception as error:  # noqa: BLE001 - whatever it is, the task's log has it
                    _log.exception("A call failed unexpectedly")
                    return await self._fail(f"The dispatcher failed: {error!r}", log)
        finally:
            self.is_exposed = False
            self._context.beating.pop(self.ti_id, None)
            self._applier.cancel()
            self._context.upload_log(self._message["workload"]["log_path"], self._ti)

    def _refuse(self, trouble: str) -> Result:
        """Have the scheduler fail what was never started."""
        with TaskLog(self._message["workload"]["log_path"]) as log:
            log.event("error", trouble)
        self._context.upload_log(self._message["workload"]["log_path"], self._ti)
        return Result(Outcome.FAILED, trouble)

    @contextlib.asynccontextmanager
    async def _out_of_beats(self) -> AsyncIterator[None]:
        """Change what stands in the database while no heartbeat is under way that goes by what stood there before."""
        self._is_changing = True
        try:
            await self._context.beaten()
            if self._interrupted.done():
                self._interrupted.result()  # the last one found that the task instance is another's
            yield
        finally:
            self._is_changing = False

    async def _start(self, *, again: bool) -> TaskRequest:
        """Have Airflow take the task instance for running, behind a new fence."""
        knative = self._message.get("knative") or {}
        fence = self._context.database.new_fence()
        endpoint = self._context.endpoints.known(*self._task)  # without one, sending says so, if it stays like that
        self._revision = endpoint.revision if endpoint else None
        held = None if self._context.promptness.expects(self._task, self._revision) else datetime.now(UTC)
        self.is_exposed = held is None
        timeout = max(float(knative.get("timeout", 600)), endpoint.timeout if endpoint else 0.0)
        async with self._out_of_beats():
            request = await self._context.patiently(
                self._context.database.start,
                self._message["workload"],
                fence,
                held=held,
                again=again,
                declared=self._context.learned.declared(*self._task, knative),
                valid_for=timeout + _TOKEN_MARGIN,
            )
            self._fence, self._held, self._made = fence, held, time.monotonic()
        return request

    async def _supervise(self, request: TaskRequest, log: TaskLog) -> Result:
        """Send the request and take in the answer, unless the task instance is taken away meanwhile."""
        sending = asyncio.create_task(self._send(request, log))
        try:
            await asyncio.wait({sending, self._interrupted}, return_when=asyncio.FIRST_COMPLETED)
            await (sending if sending.done() else self._interrupted)
        except _EXPECTED as error:
            self.is_exposed = False
            await _end(sending)  # its worker, if there is one, sees that nobody listens any more
            if self._applier.settled:  # then what comes after, or fails to, changes nothing
                log.event("warning", f"After the end of the task: {error}")
                return Result(Outcome.SETTLED)
            return await self._give_reason(error, log)
        finally:
            await _end(sending, self._interrupted)
        return await self._conclude(log)

    async def _give_reason(self, error: Exception, log: TaskLog) -> Result:
        """The answer did not settle the task instance's state: find out what did, or will."""
        self._context.beating.pop(self.ti_id, None)
        if isinstance(error, FencedOffError):
            log.event("warning", "The task instance was stopped: its state was changed, or it was cleared or deleted")
            if (result := await self._context.end_of(self._owner)) is not None:
                if result.outcome is Outcome.STOPPED and (self._started is not None or self._held is None):
                    await asyncio.sleep(_KILLED)  # the next try is not to begin beside this one
                return result
            error = BrokenOffError("It runs behind another fence by now.")
        if isinstance(error, BrokenOffError):
            log.event("warning", f"{error} Waiting for its worker to report by itself.")
            return await _await_report(self._context, self._owner, self._message["workload"]["log_path"])
        return await self._fail(str(error), log)

    async def _conclude(self, log: TaskLog) -> Result:
        """After a whole answer: is the task instance's state settled?"""
        self._stages["applied"] = time.time()
        finished = self._finished
        if finished is None or not self._applier.settled:
            code = finished.exit_code if finished else None
            return await self._fail(f"The task process ended with exit code {code} without a state for its task.", log)
        log.event(
            "info",
            "Task instance timings",
            logger="airflow_knative.timeline",
            stages={name: round(at, 6) for name, at in sorted(self._stages.items(), key=lambda item: item[1])},
            cold=bool(self._started and self._started.cold),
            worker=self._started.worker if self._started else None,
            service=self._service,
            prewarm=self._context.prewarmer
            and self._context.prewarmer.told(self._owner.dag_id, self._owner.run_id, self._service),
        )
        return Result(Outcome.SETTLED)

    async def _fail(self, reason: str, log: TaskLog) -> Result:
        """Take the task instance from its worker, if it has one, and have the scheduler fail it."""
        log.event("error", reason)
        await self._context.patiently(self._context.database.fence_off, self._owner, self._fence)
        return Result(Outcome.FAILED, reason)

    async def _send(self, request: TaskRequest, log: TaskLog) -> None:
        """Send the request, again and again while it surely did not start, and take in the answer."""
        waiting = Waiting(self._context.settings.dispatch_retry_timeout)
        while (failed := await self._attempt(request, log)) is not None:
            request, trouble = failed
            took = self._took
            is_held = waiting.is_long(took) and not isinstance(trouble, BusyError)
            if isinstance(trouble, BusyError) or (is_held and await self._is_served()):
                waiting.begin_anew()  # a full service slows dispatch down, and fails nothing
                took = 0.0
            is_first = waiting.is_new
            pause = waiting.next(took, timeout=self._endpoint.timeout if self._endpoint else 0.0)
            if pause is None and waiting.held:
                raise NotStartedError(
                    f"{trouble} It has held requests for {waiting.held:.0f} s, and no worker of it took one: see why "
                    "its workers do not start."
                )
            if pause is None:
                raise trouble
            if is_first or is_held:
                log.event("warning", f"{trouble} Trying again.")
            await asyncio.sleep(pause)
            if time.monotonic() - self._made > _TOKEN_MARGIN:
                request = await self._renew(trouble)

    async def _attempt(self, request: TaskRequest, log: TaskLog) -> tuple[TaskRequest, AirflowKnativeError] | None:
        """Send a request and take in the answer; return one in its place, and why, if it surely did not start."""
        self._took = 0.0
        try:
            endpoint, request = await self._address(request)
            await self._send_once(endpoint, request, log)
        except (NoEndpointError, NotStartedError) as error:
            return await self._hold(request), error
        except BrokenOffError as error:
            if self._started is not None or not request.claim:
                raise  # it may be running
            return await self._renew(error), NotStartedError(f"{error} No worker has claimed the request.")
        return None

    async def _is_served(self) -> bool:
        """Whether the service was at work for others while it held the request: then it is full, and not broken."""
        return await self._context.patiently(
            self._context.database.serves_others,
            self._owner,
            since=datetime.now(UTC) - timedelta(seconds=self._took),
            whole_dag=self._endpoint is not None and self._endpoint.task_id is None,
        )

    async def _address(self, request: TaskRequest) -> tuple[Endpoint, TaskRequest]:
        """Return where to send a request, and what: not unasked to another revision than the one known to be prompt."""
        endpoint = self._context.endpoints.find(*self._task)
        return endpoint, request if endpoint.revision == self._revision else await self._hold(request)

    async def _renew(self, error: Exception) -> TaskRequest:
        """Return a new request in place of one that nobody has claimed.

        Raises:
            BrokenOffError: somebody has.
        """
        try:
            return await self._start(again=True)
        except NotRunnableError:
            raise BrokenOffError(str(error)) from error

    async def _hold(self, request: TaskRequest) -> TaskRequest:
        """Return the request for another time: one that has to be claimed, now that it has to wait."""
        if request.claim:
            return request
        async with self._out_of_beats():
            at = datetime.now(UTC)
            if not await self._context.patiently(self._context.database.hold, self._owner, self._fence, at):
                raise FencedOffError("The task instance is no longer running here.")
            self._held = at
        self.is_exposed = False
        return request.model_copy(update={"claim": True})

    async def _send_once(self, endpoint: Endpoint, request: TaskRequest, log: TaskLog) -> None:
        body = request.model_dump_json().encode()
        token = self._context.signer.sign(
            audience=endpoint.name,
            ti_id=self.ti_id,
            try_number=int(self._ti["try_number"]),
            body=body,
            valid_for=endpoint.timeout + _SIGNATURE_MARGIN,
        )
        self._endpoint = endpoint
        self._stages["sent"] = time.time()
        begun = time.monotonic()
        try:
            with self._context.promptness.waiting(self._task, endpoint.revision) as taken:
                async with self._context.workers.run(endpoint, body, token) as records:
                    taken()
                    await self._take_in(records, log)
        finally:
            self.is_listening = False
            self._took = time.monotonic() - begun
        self._stages["ended"] = time.time()
        await self._applier.drain(self._fence)

    async def _take_in(self, records: AsyncIterator[list[Record]], log: TaskLog) -> None:
        self.last_heard = time.monotonic()
        self.is_listening = True
        async for batch in records:
            self.is_listening = False  # while the database is busy, it is not the worker who is silent
            log.lines([record.line for record in batch if isinstance(record, LogLine)])
            for record in batch:
                self._take(record)
            await self._applier.keep_up(self._fence)
            if self._finished is not None:
                return
            self.last_heard = time.monotonic()
            self.is_listening = True
        raise BrokenOffError("The answer ended without its `finished` record.")

    def _take(self, record: Record) -> None:
        if self._started is None:
            if not isinstance(record, Started) or record.ti_id != self.ti_id:
                raise WireError(f"The worker's answer begins with {record!r}, not as started for {self._owner}.")
            self._started = record
            self.is_exposed = False
        elif isinstance(record, Started) or self._finished is not None:
            raise WireError(f"The worker sent {record!r}, which has no place there.")
        elif isinstance(record, Write):
            check_write(self._owner, record)
            self._applier.add(record)
        elif isinstance(record, Missed):
            self._context.learned.missed(self._owner.dag_id, self._owner.task_id, record.path)
        elif isinstance(record, Finished):
            if record.writes != self._applier.received:
                raise WireError(f"The worker says it sent {record.writes} writes, {self._applier.received} came.")
            self._finished = record
            stages = record.stages.model_dump(exclude_none=True)
            self._stages |= stages


async def _end(*futures: asyncio.Future[None]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


class _Applier:
    """Replays a call's writes in order, as many at once as have come in."""

    _MOST_PENDING: Final = 256

    def __init__(self, context: Context, owner: Owner) -> None:
        self._context = context
        self._owner = owner
        self._pending: list[Write] = []
        self._applying: asyncio.Task[None] | None = None
        self._state_seen = False
        self.received = 0
        self.settled = False
        """Whether the worker's own word on the task instance's state has taken effect."""

    @property
    def is_settling(self) -> bool:
        """Whether that is so, or is about to be."""
        return self._state_seen

    def add(self, write: Write) -> None:
        """Queue a write.

        Raises:
            WireError: it is out of order.
        """
        if write.seq != self.received:
            raise WireError(f"The worker sent write {write.seq} where write {self.received} was due.")
        if write.is_state:
            if self._state_seen:
                raise WireError("The worker sent a second state for its task.")
            self._state_seen = True
        self.received += 1
        self._pending.append(write)

    async def keep_up(self, fence: Fence) -> None:
        """See to it that writes are being applied; wait only if too many are waiting."""
        if self._applying is not None and self._applying.done():
            self._applying.result()
            self._applying = None
        if self._applying is None and self._pending:
            self._applying = asyncio.create_task(self._apply(fence))
        if len(self._pending) > self._MOST_PENDING:
            await self.drain(fence)

    async def drain(self, fence: Fence) -> None:
        """Wait until every write is applied."""
        while self._applying is not None or self._pending:
            if self._applying is not None:
                await asyncio.shield(self._applying)
            await self.keep_up(fence)

    def cancel(self) -> None:
        """Apply nothing more."""
        self._pending.clear()
        if self._applying is not None:
            self._applying.cancel()

    async def _apply(self, fence: Fence) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                settles = await self._context.patiently(
                    self._context.database.apply, self._owner, fence, batch, settled=self.settled
                )
            except DBAPIError as error:
                raise WriteRefusedError(f"Airflow's database refuses what the worker wrote: {error}") from error
            if settles:
                self.settled = True
                self._context.wake()  # what comes next need not wait for the end of the answer
