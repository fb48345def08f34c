from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest_asyncio

from airflow_knative.local.activator.app import Activator
from airflow_knative.local.activator.worker import Launch
from airflow_knative.local.catalog import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

STANDIN = Path(__file__).with_name("standin_worker.py")


async def eventually(condition: Callable[[], Awaitable[Any]] | Callable[[], Any]) -> Any:
    """Wait until a condition holds; the test's own time-out is the limit."""
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.01)


class Bench:
    """An activator with stand-in workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services: list[Service] = []
        self.events_file = folder / "events"
        self.secrets = folder / "secrets"
        self.admin = folder / "admin.sock"
        for name in ("logs", "secrets"):
            (folder / name).mkdir()
        self.launch = Launch(
            environment={"PATH": os.environ["PATH"], "EVENTS": str(self.events_file)},
            folder=folder,
            logs=folder / "logs",
            secrets=self.secrets,
            command=(sys.executable, "-I", str(STANDIN)),
            ready_timeout=30.0,
            grace=5.0,
        )
        self.limits: dict[str, int] = {"starts_at_once": 8, "queue_limit": 100}

    def service(self, name: str = "svc", **options: Any) -> Service:
        """Add a service."""
        made = Service(
            **{"name": name, "revision": "1", "dag_id": "d", "task_id": "t", "file": "d.py", "window": 60.0, **options}
        )
        self.services = [*[known for known in self.services if known.name != name], made]
        return made

    async def start(self) -> None:
        """Start the activator."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.activator = Activator(lambda: list(self.services), self.launch, **self.limits)
        self._serving = asyncio.create_task(self.activator.serve(self.listener, self.admin))
        self.client = aiohttp.ClientSession(f"http://127.0.0.1:{self.port}")
        self._owner = aiohttp.ClientSession("http://owner", connector=aiohttp.UnixConnector(str(self.admin)))
        await eventually(lambda: self.admin.exists() or self._serving.done())

    async def stop(self) -> None:
        """Stop it."""
        if hasattr(self, "client"):
            self.activator.stop()
            await self.client.close()
            await self._owner.close()
            await self._serving

    def request(
        self, path: str, *, service: str = "svc", method: str = "POST", headers: Any = None, data: Any = None
    ) -> Any:
        """A request to a service."""
        return self.client.request(
            method, path, headers={"Host": f"{service}.airflow.local", **(headers or {})}, data=data
        )

    async def ask(self, path: str = "/any", **options: Any) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        async with self.request(path, **options) as response:
            return response.status, json.loads(await response.read())

    async def status(self, service: str = "svc") -> dict[str, Any]:
        """What the activator tells its owner about a service."""
        async with self._owner.get("/") as response:
            return next(known for known in (await response.json())["services"] if known["service"] == service)

    async def workers(self, service: str = "svc") -> list[dict[str, Any]]:
        """Its workers."""
        return (await self.status(service))["workers"]

    async def reload(self) -> None:
        """Have the services read again."""
        async with self._owner.post("/reload") as response:
            assert response.status == 200

    def events(self, name: str) -> list[dict[str, Any]]:
        """What workers noted."""
        if not self.events_file.exists():
            return []
        noted = [json.loads(line) for line in self.events_file.read_text().splitlines()]
        return [entry for entry in noted if entry["event"] == name]

    def release_file(self, name: str = "release") -> dict[str, str]:
        """Headers that hold a request until the file is there."""
        return {"X-Release": str(self.folder / name)}

    def release(self, name: str = "release") -> None:
        """Let held requests go."""
        (self.folder / name).touch()

    def tune(self, **changes: Any) -> None:
        """Change how workers are started."""
        self.launch = replace(self.launch, **changes)


@pytest_asyncio.fixture
async def bench(tmp_path_factory: Any) -> AsyncIterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("b"))
    yield made
    await made.stop()
