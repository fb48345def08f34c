"""The activator's two listeners: TCP for requests, a Unix socket for its owner."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_knative.local.activator.proxy import Proxy
from airflow_knative.local.activator.registry import Registry
from airflow_knative.local.control import unix_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from airflow_knative.local.activator.worker import Launch
    from airflow_knative.local.catalog import Service

__all__ = ["Activator"]


class Activator:
    """Serves until told to stop.

    Args:
        read_services: Reads the services that there are to be.
        launch: How workers are started.
        starts_at_once: Workers that may be starting at the same time; 0 for one more than there are processors.
        queue_limit: Requests that may wait for a worker of one service.
    """

    def __init__(
        self,
        read_services: Callable[[], Iterable[Service]],
        launch: Launch,
        *,
        starts_at_once: int = 0,
        queue_limit: int = 1000,
    ) -> None:
        self._read_services = read_services
        self._launch = launch
        self._starts_at_once = starts_at_once or (os.cpu_count() or 1) + 1
        self._queue_limit = queue_limit
        self._stopping = asyncio.Event()
        self._began = time.time()

    async def serve(self, listener: socket.socket, admin: Path) -> None:
        """Serve on a bound TCP socket, and for the owner on a Unix socket at `admin`, until `stop`."""
        registry = Registry(self._launch, starts_at_once=self._starts_at_once, queue_limit=self._queue_limit)
        proxy = Proxy(registry)
        self._registry = registry
        registry.update(self._read_services())
        front = web.ServerRunner(
            web.Server(proxy.handle, access_log=None, handler_cancellation=True, auto_decompress=False)
        )
        back = web.AppRunner(self._admin(), access_log=None)
        await asyncio.gather(front.setup(), back.setup())
        door = web.SockSite(front, listener, backlog=1024)
        try:
            await door.start()
            await web.SockSite(back, unix_listener(admin)).start()
            await self._stopping.wait()
        finally:
            await door.stop()
            await registry.close()
            await proxy.close()
            await asyncio.gather(front.cleanup(), back.cleanup())
            admin.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call

    def stop(self) -> None:
        """Stop serving and end all workers."""
        self._stopping.set()

    def stop_on_signals(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    def _admin(self) -> web.Application:
        async def status(_: web.Request) -> web.Response:
            return web.json_response({"uptime": time.time() - self._began, "services": self._registry.status()})

        async def health(_: web.Request) -> web.Response:
            return web.Response()

        async def reload(_: web.Request) -> web.Response:
            services = list(self._read_services())
            self._registry.update(services)
            return web.json_response({"services": len(services)})

        application = web.Application()
        application.router.add_get("/", status)
        application.router.add_get("/healthz", health)
        application.router.add_post("/reload", reload)
        return application
