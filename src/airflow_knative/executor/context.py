"""What the calls of a dispatcher share."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from airflow_knative.executor.claims import Promptness
from airflow_knative.executor.inputs import Learned
from airflow_knative.executor.outcome import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_knative.executor.call import Call
    from airflow_knative.executor.database import Database, Sighting
    from airflow_knative.executor.endpoints import Endpoints
    from airflow_knative.executor.journal import Owner
    from airflow_knative.executor.prewarm import Prewarmer
    from airflow_knative.executor.remotelog import RemoteLogs
    from airflow_knative.executor.settings import ExecutorSettings
    from airflow_knative.executor.stream import Workers
    from airflow_knative.wire import Signer

__all__ = ["Context"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_THREADS: Final = 8  # each holds one database connection while it works
_WATCH_INTERVAL: Final = 2.0  # seconds
_FIRST_DELAY: Final = 0.05  # seconds before the database is asked again; doubles up to the last
_LAST_DELAY: Final = 5.0
# Classes of errors (PostgreSQL's manual, appendix A) that pass: connection, rollback, resources, locks, intervention.
_PASSING: Final = frozenset({"08", "40", "53", "55", "57"})


class Context:
    """The dispatcher's parts, and the calls that want heartbeats."""

    def __init__(
        self,
        settings: ExecutorSettings,
        *,
        database: Database,
        endpoints: Endpoints,
        signer: Signer,
        workers: Workers,
        wake: Callable[[], None],
        remote_logs: RemoteLogs | None = None,
    ) -> None:
        """Bring the parts together."""
        self.settings = settings
        self.database = database
        self.endpoints = endpoints
        self.signer = signer
        self.workers = workers
        self.wake = wake
        """Tells the scheduler that there is something to schedule."""
        self.remote_logs = remote_logs
        self.learned = Learned()
        self.promptness = Promptness()
        self.prewarmer: Prewarmer | None = None
        """None where services are not started ahead."""
        self.beating: dict[str, Call] = {}
        """Calls by task instance id, for which this dispatcher heartbeats."""
        self._last_beat = time.monotonic()
        self._beaten = asyncio.Event()
        self._beaten.set()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")

    async def in_thread(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run something that blocks."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(function, *args, **kwargs))

    async def patiently(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run something that blocks, again and again while the database is away: nobody gets any further then."""
        delay = _FIRST_DELAY
        while True:
            try:
                return await self.in_thread(function, *args, **kwargs)
            except (DBAPIError, PoolTimeoutError) as error:
                if not _is_away(error):
                    raise
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311
                delay = min(delay * 2, _LAST_DELAY)

    async def heartbeat_once(self) -> None:
        """Heartbeat for every call; those whose task instance was taken away lose it."""
        now, before = time.monotonic(), self._last_beat
        self._last_beat = now
        # After a pause of this very process, what came meanwhile is still to be read.
        paused = now - before - self.settings.heartbeat_interval >= self.settings.lost_worker_timeout / 2
        for call in list(self.beating.values()):
            if not paused and call.is_listening and now - call.last_heard > self.settings.lost_worker_timeout:
                call.give_up()  # the worker says nothing any more: it must prove itself to the Execution API
        beats = [(call, beat) for call in self.beating.values() if (beat := call.beat) is not None]
        if not beats:
            return
        self._beaten.clear()
        try:
            lost, held = await self.in_thread(self.database.heartbeat, [beat for _, beat in beats])
            for call, beat in beats:
                call.take_beat(beat, is_lost=beat.ti_id in lost, held=held.get(beat.ti_id))
        finally:
            self._beaten.set()

    async def beaten(self) -> None:
        """Wait until every heartbeat that has begun is done."""
        await self._beaten.wait()

    async def end_of(self, owner: Owner) -> Result | None:
        """Tell how a try ended that does not run here any more; None if it runs elsewhere."""
        return _end(owner, await self.patiently(self.database.look, owner))

    async def watch(self, owner: Owner) -> Result:
        """Follow a task instance whose worker has no caller, until it is settled or silent for too long."""
        # A heartbeat bears the time of the API server's clock: what counts here is that it is another one than before.
        silent_since, heartbeat = time.monotonic(), None
        while True:
            await asyncio.sleep(min(_WATCH_INTERVAL, self.settings.lost_worker_timeout / 4))
            try:
                sighting = await self.in_thread(self.database.look, owner)
                if (result := _end(owner, sighting)) is not None or sighting is None:
                    return result or Result(Outcome.SETTLED)
                if sighting.last_heartbeat != heartbeat:
                    silent_since, heartbeat = time.monotonic(), sighting.last_heartbeat
                if time.monotonic() - silent_since <= self.settings.lost_worker_timeout:
                    continue
                if sighting.fence is None or await self.in_thread(self.database.fence_off, owner, sighting.fence):
                    return Result(
                        Outcome.FAILED,
                        f"The worker was lost: no heartbeat of the task for {self.settings.lost_worker_timeout:g} s "
                        "([knative] lost_worker_timeout).",
                    )
            except (DBAPIError, PoolTimeoutError):
                silent_since = time.monotonic()  # while the database is away, no worker can prove itself

    def upload_log(self, path: str | None, ti: dict[str, Any]) -> None:
        """Begin to upload a task instance's log, where logs are kept elsewhere, too."""
        if self.remote_logs is not None:
            self.remote_logs.upload(path, ti)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.remote_logs is not None:
            self.remote_logs.close()


def _end(owner: Owner, sighting: Sighting | None) -> Result | None:
    """Return how the owner's try ended; None while it runs."""
    if sighting is not None and sighting.state == "restarting":
        return Result(Outcome.STOPPED)
    if sighting is not None and sighting.ti_id == owner.ti_id and sighting.state == "running":
        return None
    return Result(Outcome.SETTLED)


def _is_away(error: DBAPIError | PoolTimeoutError) -> bool:
    """Whether the database cannot be reached or cannot work now, rather than that it refuses what it was asked."""
    if isinstance(error, PoolTimeoutError) or error.connection_invalidated:
        return True
    code = getattr(error.orig, "pgcode", None)  # None when no answer came
    return isinstance(error, OperationalError | InterfaceError) and (code is None or code[:2] in _PASSING)
