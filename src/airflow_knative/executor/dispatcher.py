"""The dispatcher: a process of its own beside the scheduler, which runs many calls to workers at once.

Calls are coroutines, because they wait for workers nearly all of their time; what asks the database runs in a few
threads, because Airflow's Execution API is synchronous.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.executor import channel
from airflow_knative.executor.call import Call, follow
from airflow_knative.executor.context import Context
from airflow_knative.executor.database import Database
from airflow_knative.executor.endpoints import open_endpoints
from airflow_knative.executor.outcome import Outcome, Result
from airflow_knative.executor.prewarm import Prewarmer
from airflow_knative.executor.remotelog import RemoteLogs
from airflow_knative.executor.settings import ExecutorSettings
from airflow_knative.executor.stream import Workers
from airflow_knative.executor.wakeup import listen
from airflow_knative.wire import Signer
from airflow_knative.wire.keys import load_private

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from airflow_knative.executor.prewarm_plan import Node, Progress

__all__ = ["main"]

log = logging.getLogger(__name__)

_LINE_LIMIT = 256 * 1024 * 1024  # bytes of one message from the executor
_LEAVE_TIMEOUT = 30.0  # seconds
_LEAVE_INTERVAL = 0.02
_WAKE_BACKLOG = 4096  # bytes that the executor has not read yet, among which there is something to wake it


class Dispatcher:
    """Takes the executor's messages and answers each call with its result."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the executor at the other end of `reader` and `writer`."""
        self._context: Context
        self._reader = reader
        self._writer = writer
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[Call] = set()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Have `run` return, as soon as every task instance can do without this dispatcher."""
        self._stopped.set()

    def wake(self) -> None:
        """Tell the scheduler that there is something to schedule."""
        if self._writer.transport.get_write_buffer_size() < _WAKE_BACKLOG:
            self._tell({"type": channel.WAKE})

    async def run(self, context: Context) -> None:
        """Serve until the executor is gone, or `stop`."""
        self._context = context
        beat = asyncio.create_task(self._heartbeats())
        woken = asyncio.create_task(self._wakeups())
        ends = asyncio.create_task(self._read()), asyncio.create_task(self._stopped.wait())
        try:
            self._tell({"type": channel.READY})
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await self._leave()
            for task in done:
                task.result()
        finally:
            left = (beat, woken, *ends, *self._tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):  # a scheduler that was killed
            while line := await self._reader.readline():
                self._take(channel.decode(line))

    async def _leave(self) -> None:
        """Wait until workers have taken what nobody could otherwise tell whether they have."""
        deadline = time.monotonic() + _LEAVE_TIMEOUT
        while exposed := [call.ti_id for call in self._calls if call.is_exposed]:
            if time.monotonic() > deadline:
                log.warning("Left before a worker had answered for task instances %s", ", ".join(exposed))
                return
            await asyncio.sleep(_LEAVE_INTERVAL)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == channel.RUN:
            call = Call(self._context, message)
            self._calls.add(call)
            self._spawn(message["call"], self._see_through(call))
            if self._context.prewarmer is not None:
                self._context.prewarmer.began(message["call"], message["workload"]["ti"])
        elif message["type"] == channel.ADOPT:
            self._spawn(message["call"], follow(self._context, message["ti"], message["log_path"]))

    async def _see_through(self, call: Call) -> Result:
        try:
            return await call.run()
        finally:
            self._calls.discard(call)

    def _spawn(self, call: int, work: Coroutine[Any, Any, Result]) -> None:
        task = asyncio.create_task(self._finish(call, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, call: int, work: Coroutine[Any, Any, Result]) -> None:
        try:
            result = await work
        except Exception as error:
            log.exception("A call ended unexpectedly")  # and still has to come to an end
            result = Result(Outcome.FAILED, f"The dispatcher failed: {error!r}")
        if self._context.prewarmer is not None:
            self._context.prewarmer.ended(call, result.outcome)
        self._tell({"type": channel.DONE, "call": call, "outcome": result.outcome, "info": result.reason})

    async def _wakeups(self) -> None:
        try:
            await listen(self.wake)
        except Exception:  # without it, runs start later
            log.exception("Listening for wake-ups failed")

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._context.settings.heartbeat_interval)
            try:
                await self._context.heartbeat_once()
            except Exception:  # the next one may work
                log.exception("Heartbeats failed")

    def _tell(self, message: dict[str, Any]) -> None:
        self._writer.write(channel.encode(message))


async def _serve(sock: socket.socket) -> None:
    settings = ExecutorSettings.from_configuration()
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_LINE_LIMIT)
    dispatcher = Dispatcher(reader, writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, dispatcher.stop)
    async with (
        open_endpoints(settings.endpoints) as endpoints,
        Workers(connect_timeout=settings.connect_timeout, max_record_bytes=settings.max_record_bytes) as workers,
    ):
        context = Context(
            settings,
            database=Database(max_inline_bytes=settings.max_inline_bytes),
            endpoints=endpoints,
            signer=Signer(load_private(settings.signing_key)),
            workers=workers,
            wake=dispatcher.wake,
            remote_logs=RemoteLogs(),
        )
        try:
            async with _prewarming(context):
                await dispatcher.run(context)
        finally:
            context.close()


@contextlib.asynccontextmanager
async def _prewarming(context: Context) -> AsyncIterator[None]:
    settings = context.settings
    if not settings.prewarm:
        yield
        return

    async def read(dag_id: str, run_id: str) -> tuple[dict[str, Node], dict[str, Progress]] | None:
        return await context.in_thread(context.database.read_run, dag_id, run_id)

    async with Prewarmer(
        context.endpoints, read, depth=settings.prewarm_depth, limit=settings.prewarm_limit
    ) as prewarmer:
        context.prewarmer = prewarmer
        yield


def main() -> None:
    """Serve the executor on the socket whose descriptor is the first argument."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"  # reads secrets as the scheduler does
    try:
        asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))
    except AirflowKnativeError as error:
        print(f"airflow-knative dispatcher: {error}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
