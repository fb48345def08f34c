"""A part that is kept running: started, watched, restarted with backoff, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_knative.local.process import OwnedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Child", "Part"]

_BACKOFF_FIRST: Final = 0.5
_BACKOFF_LAST: Final = 30.0
_SETTLED: Final = 60.0
"""Seconds of life after which a death counts as the first again."""

State = Literal["stopped", "running", "restarting", "stopping"]


@dataclass(frozen=True)
class Part:
    """How one part is run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    folder: Path
    port: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 10.0
    setup: Callable[[], None] | None = None


class Child:
    """One part's process through all its restarts."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.restarts = 0
        self.last_exit: int | None = None
        self._process: OwnedProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._state: State = "stopped"
        self._delay = _BACKOFF_FIRST
        self._hurry = asyncio.Event()

    @property
    def process(self) -> OwnedProcess | None:
        """The process, while it runs."""
        return self._process if self._process is not None and self._process.is_running else None

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    def start(self, adopted: OwnedProcess | None = None) -> None:
        """Start it and keep it running from now on, or keep a process running that has been started elsewhere."""
        self._process = adopted or self._launch()
        self._state = "running"
        self._keeper = asyncio.get_running_loop().create_task(self._keep(self._process), name=self.part.name)

    def hurry(self) -> None:
        """Restart now if it waits to be restarted."""
        self._hurry.set()

    async def stop(self) -> None:
        """End it for good."""
        self._state = "stopping"
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self.process is not None:
            await self.process.stop(first=self.part.stop_signal, within=self.part.stop_timeout)
        self._state = "stopped"

    def status(self) -> dict[str, Any]:
        """For `status`."""
        process = self.process
        return {
            "part": self.part.name,
            "state": self._state,
            "pid": process.pid if process else None,
            "port": self.part.port,
            "uptime": time.time() - process.started if process else None,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "log": str(self.part.log),
        }

    def _launch(self) -> OwnedProcess:
        return OwnedProcess.start(
            self.part.command,
            environment=self.part.environment,
            log=self.part.log,
            folder=self.part.folder,
            setup=self.part.setup,
        )

    async def _keep(self, process: OwnedProcess) -> None:
        while True:
            self.last_exit = await process.wait()
            if time.time() - process.started > _SETTLED:
                self._delay = _BACKOFF_FIRST
            self._state = "restarting"
            say(f"{self.part.name} (pid {process.pid}) ended with {self.last_exit}; next start in {self._delay:.1f} s")
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self._delay)
            self._delay = min(self._delay * 2, _BACKOFF_LAST)
            try:
                process = self._process = self._launch()
            except OSError as error:
                say(f"{self.part.name} cannot be started: {error}")
                continue
            self.restarts += 1
            self._state = "running"


def say(message: str) -> None:
    """Write a line to the supervisor's own log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}", file=sys.stderr, flush=True)  # noqa: T201
