"""Starting all parts, side by side where nothing forbids it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import airflow_knative
from airflow_knative.local.child import Child, Part
from airflow_knative.local.errors import PartError
from airflow_knative.local.files import tail, write_atomically
from airflow_knative.local.launch import Launcher
from airflow_knative.local.once import run_once
from airflow_knative.local.parts import AIRFLOW_PARTS, Parts
from airflow_knative.local.process import OrphanSweeper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_knative.local.health import Health
    from airflow_knative.local.progress import Progress
    from airflow_knative.local.rollout import Rollout
    from airflow_knative.local.secrets import Secrets

__all__ = ["BringUp"]

# By its path: finding the module would import its package, and with it all of Airflow.
_WAKEUP: Final = Path(airflow_knative.__file__).parent / "executor" / "wakeup.py"
_POLL: Final = 0.1
_AIRFLOW_POLL: Final = 0.2
_DEATHS: Final = 3
"""A part that dies so often before it is healthy will not get there."""
_TIMEOUT: Final = 300.0
_ERROR_LINES: Final = 15


class BringUp:
    """One start of an instance."""

    def __init__(
        self,
        *,
        parts: Parts,
        secrets: Secrets,
        health: Health,
        rollout: Rollout,
        progress: Progress,
        children: dict[str, Child],
    ) -> None:
        self._parts = parts
        self._secrets = secrets
        self._health = health
        self._rollout = rollout
        self._progress = progress
        self._children = children
        self._airflow_health: dict[str, bool] = {}

    async def run(self) -> None:
        """Start everything and wait until all of it is healthy.

        Raises:
            LocalError: A part does not come up.
        """
        try:
            async with asyncio.timeout(_TIMEOUT), asyncio.TaskGroup() as group:
                services = group.create_task(self._services())
                group.create_task(self._gateway())
                group.create_task(self._airflow(services))
        except* TimeoutError:
            busy = [step["name"] for step in self._progress.snapshot()["steps"] if step["state"] != "done"]
            raise PartError(f"not up within {_TIMEOUT:g} s; waited for: {', '.join(busy)}") from None

    async def _services(self) -> None:
        with self._progress.step("services"):
            self._start(self._parts.activator())
            await self._rollout.render()
            await self._until("activator", self._health.activator_answers)
            await self._rollout.publish()

    async def _gateway(self) -> None:
        with self._progress.step("gateway"):
            self._start(self._parts.gateway())
            await self._until("gateway", self._health.gateway)

    async def _airflow(self, services: asyncio.Task[None]) -> None:
        with OrphanSweeper.paused():
            launcher = Launcher(self._parts)
            try:
                with self._progress.step("database"):
                    await self._database()
                with self._progress.step("airflow"):
                    processes = await launcher.launch(self._admin_to_make())
            finally:
                await launcher.close()
            for name, process in processes.items():
                self._children[name] = Child(self._parts.airflow(name))
                self._children[name].start(process)
        write_atomically(self._parts.paths.migrated, self._stamp())
        asked = asyncio.create_task(self._ask_airflow())
        try:
            await asyncio.gather(*(self._airflow_part(name) for name in AIRFLOW_PARTS), self._dags(services))
        finally:
            asked.cancel()

    def _admin_to_make(self) -> tuple[str, str] | None:
        migrated = self._parts.paths.migrated
        if migrated.exists() and migrated.read_text() == self._stamp():
            return None
        return self._secrets.admin_user, self._secrets.admin_password

    async def _airflow_part(self, name: str) -> None:
        async def healthy() -> bool:
            return self._airflow_health.get(name, False)

        with self._progress.step(name):
            await self._until(name, healthy)

    async def _ask_airflow(self) -> None:
        """Ask for all parts together: each answer costs the API server some of the time that it needs to start."""
        while True:
            self._airflow_health = await self._health.airflow(self.started())
            await asyncio.sleep(_AIRFLOW_POLL)

    def started(self) -> dict[str, float]:
        """Unix time at which each of Airflow's parts started."""
        processes = {name: self._children[name].process for name in AIRFLOW_PARTS if name in self._children}
        return {name: process.started if process else time.time() for name, process in processes.items()}

    async def _database(self) -> None:
        postgres = self._parts.postgres
        paths = self._parts.paths
        postgres.check_version()
        if not postgres.is_initialised:
            try:
                await run_once(
                    "initdb",
                    postgres.initdb_command(),
                    environment=self._parts.tool_environment,
                    log=paths.log("database"),
                    folder=paths.run,
                    setup=postgres.setup(),
                )
            finally:
                postgres.discard_password_file()
            paths.migrated.unlink(missing_ok=True)
        child = self._start(self._parts.database())

        async def ready() -> bool:
            return child.process is not None and postgres.is_ready(child.process.pid)

        await self._until("database", ready, poll=0.02)

    def _stamp(self) -> str:
        """What the database's content depends on; the same text means that there is nothing to migrate."""
        login = f"{self._secrets.instance}:{self._secrets.admin_user}:{self._secrets.admin_password}"
        packages = ("apache-airflow-core", "apache-airflow-providers-fab", "airflow-knative")
        versions = {name: version(name) for name in packages}
        versions["wakeup"] = hashlib.sha256(_WAKEUP.read_bytes()).hexdigest()
        return json.dumps({**versions, "login": hashlib.sha256(login.encode()).hexdigest()}) + "\n"

    async def _dags(self, services: asyncio.Task[None]) -> None:
        with self._progress.step("workflows"):
            await asyncio.wait([services])
            wanted = self._rollout.dag_ids

            async def parsed() -> bool:
                if not self._airflow_health.get("dag-processor"):
                    return False
                found = await self._health.parsed_dags()
                return found is not None and wanted <= found

            await self._until("dag-processor", parsed)

    def _start(self, part: Part) -> Child:
        child = self._children[part.name] = Child(part)
        try:
            child.start()
        except OSError as error:
            raise PartError(f"{part.name} cannot be started: {error}") from None
        return child

    async def _until(self, name: str, condition: Callable[[], Awaitable[bool]], *, poll: float = _POLL) -> None:
        child = self._children[name]
        while not await condition():
            if child.restarts >= _DEATHS:
                last = tail(child.part.log, _ERROR_LINES)
                raise PartError(f"{name} does not stay up; its log is {child.part.log} and ends with:\n{last}")
            await asyncio.sleep(poll)
