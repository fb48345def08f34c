"""The parts of an instance and how each is run."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.local.child import Part
from airflow_knative.local.environment import (
    airflow_environment,
    gateway_environment,
    tool_environment,
    worker_environment,
)
from airflow_knative.local.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_knative.local.paths import StatePaths
    from airflow_knative.local.secrets import Secrets
    from airflow_knative.local.settings import LocalSettings

__all__ = ["AIRFLOW_PARTS", "PART_NAMES", "Parts"]

AIRFLOW_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""Airflow's own parts and their arguments."""
PART_NAMES: Final = ("database", *AIRFLOW_PARTS, "activator", "gateway")


class Parts:
    """What to run, for one state folder and its settings."""

    def __init__(
        self, paths: StatePaths, settings: LocalSettings, secrets: Secrets, base: Mapping[str, str] = os.environ
    ) -> None:
        self.paths = paths
        self.settings = settings
        self.postgres = Postgres(paths, secrets.database_password)
        self.tool_environment = tool_environment(paths, secrets, base)
        self.airflow_environment = airflow_environment(paths, settings, secrets, self.postgres.url, base)
        self.gateway_environment = gateway_environment(paths, settings, secrets, base)
        self.worker_environment = worker_environment(paths, settings, secrets, base)

    def database(self) -> Part:
        """PostgreSQL."""
        return self._part(
            "database",
            self.postgres.command,
            self.tool_environment,
            # Fast shutdown: sessions are ended, no recovery is needed (postgres(1)).
            stop_signal=signal.SIGINT,
            setup=self.postgres.setup(),
        )

    def airflow(self, name: str) -> Part:
        """One of Airflow's own parts."""
        return self._part(
            name,
            [sys.executable, "-m", "airflow", *AIRFLOW_PARTS[name]],
            self.airflow_environment,
            port=self.settings.api_port if name == "api-server" else None,
        )

    def gateway(self) -> Part:
        """The gateway."""
        return self._part(
            "gateway",
            [sys.executable, "-m", "airflow_knative.gateway"],
            self.gateway_environment,
            port=self.settings.gateway_port,
            stop_timeout=5.0,
        )

    def activator(self) -> Part:
        """The activator, which starts the workers."""
        return self._part(
            "activator",
            [sys.executable, "-m", "airflow_knative.local.activator", str(self.paths.root)],
            self.worker_environment,
            port=self.settings.activator_port,
            # Longer than its workers' own grace period.
            stop_timeout=30.0,
        )

    def _part(self, name: str, command: list[str], environment: Mapping[str, str], **options: Any) -> Part:
        return Part(name, command, environment, self.paths.log(name), self.paths.run, **options)
