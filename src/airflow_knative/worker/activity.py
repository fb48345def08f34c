"""The stock supervisor of one task process, made to wake on its exit and to hear the front."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import structlog
from airflow.sdk.api.client import BearerAuth, Client
from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.supervisor import ActivitySubprocess, WatchedSubprocess
from airflow.sdk.log import logging_processors

from airflow_knative.wire import LogLine
from airflow_knative.worker.process import die_with_parent, kill_children
from airflow_knative.worker.randomness import reseed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from airflow_knative.wire import Record, TaskRequest
    from airflow_knative.worker.dag import LoadedDag
    from airflow_knative.worker.transport import JournalTransport

__all__ = ["TaskProcess"]

_NOBODY = UUID(int=0)


class _JournalClient(Client):
    """Opens no connection, so it needs no certificates: loading them costs as much as a warm task."""

    @staticmethod
    def _get_ssl_context_cached(*_files: str | None) -> bool:
        return False


class _LogSink:
    """The binary file under the task's structlog logger: each line becomes a record."""

    def __init__(self, emit: Callable[[Record], None]) -> None:
        self._emit = emit

    def write(self, data: bytes) -> int:
        for line in data.splitlines():
            self._emit(LogLine(line=line.decode(errors="replace")))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class _ExitWatch:
    """Readable once the process has ended (pidfd_open(2)).

    Without it the stock supervisor may sleep in `select` for seconds after the last socket closed.
    """

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Close it, if the supervisor has not: it does once the process has ended."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class TaskProcess(ActivitySubprocess):
    """One task process: forked ahead of its request, run once."""

    journal: JournalTransport

    @classmethod
    def fork(cls, dag: LoadedDag, journal: JournalTransport, emit: Callable[[Record], None]) -> Self:
        """Fork a task process that waits for its task instance."""
        parent = os.getpid()

        def target() -> None:
            die_with_parent(parent)
            reseed()
            task_runner.parse = dag.parse
            task_runner.main()

        logger = structlog.wrap_logger(
            structlog.BytesLogger(_LogSink(emit)),  # type: ignore[arg-type]
            processors=logging_processors(json_output=True),
            logger_name="task",
        ).bind()
        client = _JournalClient(base_url="http://journal.invalid/", token="", transport=journal)
        start: Any = WatchedSubprocess.start  # ActivitySubprocess.start would name the task instance already
        process: Self = start.__func__(
            cls, id=_NOBODY, client=client, target=target, logger=logger, new_process_group=True
        )
        process.journal = journal
        return process

    def is_waiting(self) -> bool:
        """Whether the forked process is still there to take a task instance."""
        return self._check_subprocess_exit() is None

    def discard(self) -> None:
        """End a process that got no task instance, or could not be supervised."""
        if self.is_waiting():
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=None)
        self._cleanup_open_sockets()  # type: ignore[no-untyped-call] # attrs hides where it comes from

    def run(self, request: TaskRequest, front: socket.socket, on_front: Callable[[TaskProcess], None]) -> int:
        """Run one task instance to its end, calling `on_front` when the front speaks; return the exit code."""
        self.journal.begin(request)
        self.client.base_url = request.execution_api.url
        self.client.auth = BearerAuth(request.execution_api.token)
        self.id = UUID(str(request.ti["id"]))

        def hear(_sock: socket.socket) -> bool:
            on_front(self)
            return True

        self.selector.register(front, selectors.EVENT_READ, (hear, self.selector.unregister))
        with contextlib.closing(_ExitWatch(self.pid)) as watch:
            self.selector.register(watch, selectors.EVENT_READ, (self._hear_exit, self.selector.unregister))
            self._on_child_started(
                ti=TaskInstance.model_validate(request.ti),
                dag_rel_path=request.dag_rel_path,
                bundle_info=BundleInfo(name=request.bundle_name, version=request.bundle_version),
                sentry_integration=request.sentry_integration,
            )
            return int(self.wait())

    def _hear_exit(self, _watch: object) -> bool:
        """End what the task left behind: it would hold the task's output open, and the answer with it."""
        kill_children(keep={self.pid})
        return False

    def lose_caller(self) -> None:
        """Report to the Execution API from now on; the next turn of the loop heartbeats there at once."""
        self.journal.caller_lost = True
        self._last_heartbeat_attempt = 0

    def stop(self) -> None:
        """End the task: SIGTERM for its `on_kill`, SIGKILL in the end."""
        self.process_log.error("The worker is shutting down and ends this task")
        self.kill(signal.SIGTERM, force=True)

    def report(self, *, deadline: float) -> bool:
        """After the end, bring the Execution API what it has not got yet; True when it has it all.

        Args:
            deadline: `time.monotonic()` at which to give up.
        """
        delay = 0.1
        while True:
            request = self.client.build_request("PUT", f"task-instances/{self.id}/heartbeat", json={})
            request.headers["authorization"] = f"Bearer {getattr(self.client.auth, 'token', '')}"
            try:
                self.journal.report(request)
            except Exception:  # noqa: BLE001 - whatever keeps the API away: try until the deadline
                if time.monotonic() + delay > deadline:
                    return False
                time.sleep(delay)
                delay = min(delay * 2, 2.0)
            else:
                return True

    def _upload_logs(self) -> None:
        """The dispatcher has the log, and uploads it where remote logging is on."""
