"""What the calls of a dispatcher share."""

from __future__ import annotations

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError

from airflow_knative.executor.inputs import Learned
from airflow_knative.executor.outcome import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_knative.executor.call import Call
    from airflow_knative.executor.database import Database, Sighting
    from airflow_knative.executor.endpoints import Endpoints
    from airflow_knative.executor.journal import Owner
    from airflow_knative.executor.settings import ExecutorSettings
    from airflow_knative.executor.stream import Workers
    from airflow_knative.wire import Signer

__all__ = ["Context"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_THREADS: Final = 8  # each holds one database connection while it works
_WATCH_INTERVAL: Final = 2.0  # seconds


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
    ) -> None:
        """Bring the parts together."""
        self.settings = settings
        self.database = database
        self.endpoints = endpoints
        self.signer = signer
        self.workers = workers
        self.wake = wake
        """Tells the scheduler that there is something to schedule."""
        self.learned = Learned()
        self.beating: dict[str, Call] = {}
        """Calls by task instance id, for which this dispatcher heartbeats."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")

    async def in_thread(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run something that blocks."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(function, *args, **kwargs))

    async def heartbeat_once(self) -> None:
        """Heartbeat for every call; those whose task instance was taken away lose it."""
        now = time.monotonic()
        for call in list(self.beating.values()):
            if call.is_streaming and now - call.last_heard > self.settings.lost_worker_timeout:
                call.give_up()  # the worker says nothing any more: it must prove itself to the Execution API
        ids = list(self.beating)
        if not ids:
            return
        for ti_id in await self.in_thread(self.database.heartbeat, ids):
            if ti_id in self.beating:
                self.beating[ti_id].lose()

    async def end_of(self, owner: Owner) -> Result:
        """Tell how a try ended that is not running any more."""
        return _end(owner, await self.in_thread(self.database.look, owner)) or Result(Outcome.SETTLED)

    async def watch(self, owner: Owner) -> Result:
        """Follow a task instance whose worker has no caller, until it is settled or silent for too long."""
        silent_since = datetime.now(UTC)
        timeout = timedelta(seconds=self.settings.lost_worker_timeout)
        while True:
            await asyncio.sleep(min(_WATCH_INTERVAL, self.settings.lost_worker_timeout / 4))
            try:
                sighting = await self.in_thread(self.database.look, owner)
                if (result := _end(owner, sighting)) is not None or sighting is None:
                    return result or Result(Outcome.SETTLED)
                if sighting.last_heartbeat is not None:
                    silent_since = max(silent_since, sighting.last_heartbeat)
                if datetime.now(UTC) - silent_since <= timeout:
                    continue
                if sighting.fence is None or await self.in_thread(self.database.fence_off, owner, sighting.fence):
                    return Result(
                        Outcome.FAILED,
                        f"The worker was lost: no heartbeat of the task for {self.settings.lost_worker_timeout:g} s "
                        "([knative] lost_worker_timeout).",
                    )
            except DBAPIError:
                silent_since = datetime.now(UTC)  # while the database is away, no worker can prove itself

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _end(owner: Owner, sighting: Sighting | None) -> Result | None:
    """Return how the owner's try ended; None while it runs."""
    if sighting is not None and sighting.state == "restarting":
        return Result(Outcome.STOPPED)
    if sighting is not None and sighting.ti_id == owner.ti_id and sighting.state == "running":
        return None
    return Result(Outcome.SETTLED)
