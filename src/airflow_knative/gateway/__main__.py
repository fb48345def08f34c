"""`python -m airflow_knative.gateway`: serve the gateway."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

import uvicorn

from airflow_knative.gateway.accesslog import configure_logging
from airflow_knative.gateway.app import Gateway, create_app
from airflow_knative.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["main"]

# Calls that wait end this much before the grace period does, so that their answers still reach the callers.
_ANSWERING = 1.0
# Longer than proxies keep idle connections, so that it is never the gateway that closes one under a request.
_KEEPALIVE = 75


class _Server(uvicorn.Server):
    """A server that lets the calls under way know when it is told to end."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            grace = max(0.0, self._gateway.settings.grace - _ANSWERING)
            self._loop.call_soon_threadsafe(self._gateway.deadlines.drain, grace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the gateway until SIGTERM or SIGINT. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_knative.gateway",
        description="Serve workflows over HTTP: POST /runWorkflow/<dag_id> runs an Airflow DAG and answers its output.",
        epilog=f"Settings are environment variables:\n\n{Settings.describe()}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        settings = Settings.from_environ(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\nAll settings: {parser.prog} --help\n")
        return 2
    configure_logging(settings.log_level)
    gateway = Gateway(settings)
    config = uvicorn.Config(
        create_app(settings, gateway),
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEPALIVE,
        timeout_graceful_shutdown=int(settings.grace) or 1,
    )
    server = _Server(config, gateway)
    server.run()
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
