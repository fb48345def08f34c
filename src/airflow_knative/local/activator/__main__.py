"""`python -m airflow_knative.local.activator STATE`: the activator of a state folder."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

from airflow_knative.local.activator.app import Activator
from airflow_knative.local.activator.worker import Launch
from airflow_knative.local.catalog import load_services
from airflow_knative.local.linux import become_subreaper
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.process import OrphanSweeper
from airflow_knative.local.settings import LocalSettings


async def _serve(paths: StatePaths) -> None:
    settings = LocalSettings.load(paths.settings)
    launch = Launch(
        environment=dict(os.environ), folder=paths.run, logs=paths.worker_logs, secrets=paths.worker_secrets
    )
    activator = Activator(lambda: load_services(paths.services), launch, starts_at_once=settings.starts_at_once)
    activator.stop_on_signals()
    listener = socket.create_server((settings.host, settings.activator_port), backlog=1024)
    sweeper = asyncio.create_task(OrphanSweeper().run())
    try:
        await activator.serve(listener, paths.activator)
    finally:
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await OrphanSweeper().finish()


if __name__ == "__main__":
    become_subreaper()
    asyncio.run(_serve(StatePaths(Path(sys.argv[1]))))
