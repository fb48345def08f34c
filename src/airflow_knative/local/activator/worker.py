"""One worker process, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_knative.local.activator.errors import StartError, StartTimeoutError
from airflow_knative.local.files import tail
from airflow_knative.local.ports import free_port
from airflow_knative.local.process import OwnedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_knative.local.catalog import Service

_ENDING: Final = 10.0
"""Seconds that a worker has after its grace period to end the tasks that did not finish within it."""

__all__ = ["Launch", "Worker"]

_POLL: Final = 0.02
_PROBE_TIMEOUT: Final = 2.0
_OUTPUT_LINES: Final = 30
_LOGS_KEPT: Final = 3

State = Literal["queued", "starting", "ready", "draining", "stopped"]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Launch:
    """How workers are started on this machine.

    Attributes:
        command: The worker's command.
        environment: What all workers have in common.
        folder: Their working folder.
        logs: Folder of their log files.
        secrets: Folder of `NAME.env` files.
        ready_timeout: Seconds from start to ready.
        grace: Seconds from SIGTERM to SIGKILL.
    """

    environment: Mapping[str, str]
    folder: Path
    logs: Path
    secrets: Path
    command: tuple[str, ...] = (sys.executable, "-m", "airflow_knative.worker")
    ready_timeout: float = 60.0
    grace: float = 20.0


class Worker:
    """A process that serves one service's requests."""

    def __init__(self, service: Service, launch: Launch) -> None:
        self.service = service
        self.number = next(_numbers)
        self.port = 0
        self.state: State = "queued"
        self.in_use = 0
        self.served = 0
        self.last_used = time.monotonic()
        self.idle_timer: asyncio.TimerHandle | None = None
        self.process: OwnedProcess | None = None
        self._launch = launch

    @property
    def is_live(self) -> bool:
        """Whether it takes requests, or will soon."""
        return self.state in {"queued", "starting", "ready"}

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self.state == "ready"

    @property
    def has_room(self) -> bool:
        """Whether it can take one more request now."""
        return self.is_ready and self.in_use < self.service.slots

    async def start(self) -> None:
        """Start the process and wait until it is ready.

        Raises:
            StartError: It ended first, or could not be started.
            StartTimeoutError: It was not ready in time; it has been stopped.
        """
        self.state = "starting"
        self.port = free_port()
        log = self._launch.logs / f"{self.service.name}.{self.number}.log"
        try:
            self.process = OwnedProcess.start(
                self._launch.command, environment=self._environment(), log=log, folder=self._launch.folder
            )
        except OSError as error:
            raise StartError(f"a worker of {self.service.name} cannot be started: {error}") from None
        self._discard_old_logs(log)
        ended = asyncio.ensure_future(self.process.wait())
        ready = asyncio.ensure_future(self._poll_ready())
        try:
            await asyncio.wait((ended, ready), timeout=self._launch.ready_timeout, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                code = ended.result()
                how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
                raise StartError(
                    f"a worker of {self.service.name} ended with {how} before it was ready; its log is {log}",
                    self.output(),
                    by_signal=code < 0,
                )
            if not ready.done():
                await self.process.stop(within=1.0)
                raise StartTimeoutError(
                    f"a worker of {self.service.name} was not ready within {self._launch.ready_timeout:g} s; "
                    f"its log is {log}",
                    self.output(),
                )
        finally:
            for task in (ended, ready):
                task.cancel()
        if self.state == "starting":
            self.state = "ready"

    async def stop(self) -> None:
        """End it: SIGTERM, and after the grace period SIGKILL for all of its process group."""
        if self.state != "stopped":
            self.state = "draining"
        if self.process is not None:
            await self.process.stop(within=self._launch.grace + _ENDING)
        self.state = "stopped"

    async def wait_if_ending(self, seconds: float) -> None:
        """Wait at most so long to see it end; it is stopped then."""
        if self.process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), seconds)
                self.state = "stopped"

    async def runs_tasks(self) -> bool:
        """Whether it says that it does: a task whose caller has gone runs on, and nobody waits for its answer."""
        status, body = await _get(self.port, "/healthz")
        with contextlib.suppress(ValueError, AttributeError):
            return status == HTTPStatus.OK and bool(json.loads(body).get("tasks"))
        return False

    def output(self) -> str:
        """The last lines that it wrote."""
        return tail(self.process.log, _OUTPUT_LINES, start=self.process.log_start) if self.process else ""

    def status(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "number": self.number,
            "state": self.state,
            "pid": self.process.pid if self.process else None,
            "port": self.port or None,
            "revision": self.service.revision,
            "in_use": self.in_use,
            "served": self.served,
            "uptime": time.time() - self.process.started if self.process else None,
            "idle": time.monotonic() - self.last_used if self.in_use == 0 else 0.0,
        }

    def _environment(self) -> dict[str, str]:
        service = self.service
        own = {
            "PORT": str(self.port),
            "K_SERVICE": service.name,
            "K_CONFIGURATION": service.name,
            "K_REVISION": f"{service.name}-{service.revision}",
            "HOSTNAME": f"{service.name}-{service.revision}-{self.number}",
            "AIRFLOW_KNATIVE_WORKER_DAG_FILE": service.file,
            "AIRFLOW_KNATIVE_WORKER_DAG_ID": service.dag_id,
            "AIRFLOW_KNATIVE_WORKER_SLOTS": str(service.slots),
            "AIRFLOW_KNATIVE_WORKER_GRACE": f"{self._launch.grace:g}",
        }
        if service.task_id is not None:
            own["AIRFLOW_KNATIVE_WORKER_TASK_ID"] = service.task_id
        secrets: dict[str, str] = {}
        for name in service.secrets:
            secrets |= _read_secret(self._launch.secrets / f"{name}.env", service.name)
        return {**self._launch.environment, **secrets, **service.env, **own}

    async def _poll_ready(self) -> None:
        while not await self._is_ready():  # noqa: ASYNC110 - another process tells by HTTP only
            await asyncio.sleep(_POLL)

    async def _is_ready(self) -> bool:
        status, _ = await _get(self.port, "/readyz")
        return status == HTTPStatus.OK

    def _discard_old_logs(self, current: Path) -> None:
        logs = [path for path in self._launch.logs.glob(f"{self.service.name}.*.log") if path != current]
        for old in sorted(logs, key=lambda path: path.stat().st_mtime)[: 1 - _LOGS_KEPT or None]:
            old.unlink(missing_ok=True)


async def _get(port: int, path: str) -> tuple[int, bytes]:
    """Return a worker's answer: status, 0 if there was none, and body."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0, b""
    try:
        writer.write(b"GET %s HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n" % path.encode())
        head, _, body = (await asyncio.wait_for(reader.read(), _PROBE_TIMEOUT)).partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        return (int(status[0]), body) if status and status[0].isdigit() else (0, b"")
    except (OSError, TimeoutError):
        return 0, b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _read_secret(path: Path, service: str) -> dict[str, str]:
    """The variables of a Kubernetes Secret's stand-in: lines of NAME=value."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise StartError(
            f"{service} names the Secret {path.stem!r}, which this machine does not have; "
            f"write its variables as NAME=value lines into {path}"
        ) from None
    entries = [line.partition("=") for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not all(sign for _, sign, _ in entries):
        raise StartError(f"{path} holds a line that is not NAME=value")
    return {name.strip(): value for name, _, value in entries}
