"""The process that owns all parts of an instance."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.local.bringup import BringUp
from airflow_knative.local.child import Child, say
from airflow_knative.local.control import Control
from airflow_knative.local.errors import LocalError
from airflow_knative.local.health import Health
from airflow_knative.local.linux import become_subreaper
from airflow_knative.local.lock import SUPERVISOR, Lock
from airflow_knative.local.parts import AIRFLOW_PARTS, PART_NAMES, Parts
from airflow_knative.local.process import OrphanSweeper, OwnedProcess
from airflow_knative.local.progress import Progress
from airflow_knative.local.rollout import Rollout
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_knative.local.paths import StatePaths

__all__ = ["Supervisor", "run_supervisor"]

# Nothing new comes in; what runs is ended or finished; what that needs goes last.
_STOP_ORDER: Final = (
    ("gateway", "scheduler", "dag-processor", "triggerer"),
    ("activator",),
    ("api-server",),
    ("database",),
)


class Supervisor:
    """Brings an instance up, keeps it up, takes it down."""

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._settings = LocalSettings.load(paths.settings)
        self._secrets = Secrets.load(paths)
        self._parts = Parts(paths, self._settings, self._secrets)
        self._children: dict[str, Child] = {}
        self._progress = Progress()
        self._stop = asyncio.Event()
        self._began = time.time()

    async def run(self) -> int:
        """Run until told to stop.

        Returns:
            The exit code: 1 if the instance did not come up.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._health = Health(self._settings, self._secrets, self._paths.activator)
        self._rollout = Rollout(self._parts, self._health)
        self._bring_up = BringUp(
            parts=self._parts,
            secrets=self._secrets,
            health=self._health,
            rollout=self._rollout,
            progress=self._progress,
            children=self._children,
        )
        control = Control(self._paths.control, self._answer)
        await control.start()
        sweeper = asyncio.create_task(OrphanSweeper().run())
        try:
            return await self._live()
        finally:
            await self._take_down()
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)
            await OrphanSweeper().finish()
            await control.stop()
            await self._health.close()
            if self._parts.postgres.socket_folder != self._paths.run:
                shutil.rmtree(self._parts.postgres.socket_folder, ignore_errors=True)
            say("down")

    async def _live(self) -> int:
        rising = asyncio.create_task(self._bring_up.run())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((rising, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not rising.done():
            rising.cancel()
            await asyncio.gather(rising, return_exceptions=True)
            self._progress.finish({"ok": False, "error": "stopped before it was up"})
            return 1
        if (error := rising.exception()) is not None:
            message = _message(error)
            say(f"not up: {message}")
            self._progress.finish({"ok": False, "error": message})
            stopping.cancel()
            return 1
        self._progress.finish({"ok": True, "problems": self._rollout.problems})
        say(f"up after {time.time() - self._began:.1f} s")
        watcher = asyncio.create_task(self._rollout.watch())
        await asyncio.wait((watcher, stopping), return_when=asyncio.FIRST_COMPLETED)
        if watcher.done():
            say(f"the workflows folder is no longer watched: {watcher.exception()}")
            await stopping
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        return 0

    async def _take_down(self) -> None:
        for names in _STOP_ORDER:
            going = [self._children[name] for name in names if name in self._children]
            await asyncio.gather(*(child.stop() for child in going))
        # One-off programs that were under way.
        for pid in OwnedProcess.live_pids():
            say(f"process {pid} is left; killing it")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _answer(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        match request.get("command"):
            case "ping":
                yield {"pid": os.getpid(), "stopping": self._stop.is_set()}
            case "status":
                yield await self._status()
            case "progress":
                async for snapshot in self._progress.follow():
                    yield snapshot
            case "hurry":
                waiting = [name for name, child in self._children.items() if child.state == "restarting"]
                for name in waiting:
                    self._children[name].hurry()
                yield {"restarted": waiting}
            case "down":
                self._stop.set()
                yield {"stopping": True}
            case other:
                yield {"error": f"unknown command {other!r}"}

    async def _status(self) -> dict[str, Any]:
        airflow, gateway, activator = await asyncio.gather(
            self._health.airflow(dict.fromkeys(AIRFLOW_PARTS, 0.0) | self._bring_up.started()),
            self._health.gateway(),
            self._health.activator(),
        )
        database = self._children.get("database")
        process = database.process if database else None
        healthy = {
            **airflow,
            "gateway": gateway,
            "activator": activator is not None,
            "database": process is not None and self._parts.postgres.is_ready(process.pid),
        }
        parts = []
        for name in PART_NAMES:
            known = self._children[name].status() if name in self._children else {"part": name, "state": "waiting"}
            parts.append({**known, "healthy": known["state"] == "running" and healthy[name]})
        outcome = self._progress.outcome
        return {
            "state": "starting" if outcome is None else "up" if not self._stop.is_set() else "stopping",
            "pid": os.getpid(),
            "uptime": time.time() - self._began,
            "settings": {**asdict(self._settings), "workflows": str(self._settings.workflows)},
            "urls": {"gateway": self._settings.gateway_url, "ui": self._settings.api_url},
            "parts": parts,
            "services": activator["services"] if activator else [],
            "problems": self._rollout.problems,
        }


def _message(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, LocalError) else f"{type(error).__name__}: {error}"


def run_supervisor(paths: StatePaths) -> int:
    """Be the supervisor of a state folder until told to stop; returns the exit code."""
    become_subreaper()
    # The guard holds the folder, so an older supervisor can only be one that is about to end.
    if not Lock(paths.lock, SUPERVISOR).acquire(timeout=30.0):
        say("another supervisor holds the state folder")
        return 1

    async def run() -> int:
        return await Supervisor(paths).run()

    try:
        return asyncio.run(run())
    except LocalError as error:
        say(str(error))
        return 1
