"""Where everything lies: one folder, private to its owner."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import platformdirs

from airflow_knative.local.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StatePaths", "default_state"]


def default_state() -> Path:
    """`$XDG_STATE_HOME/airflow-knative`, by default `~/.local/state/airflow-knative`."""
    return platformdirs.user_state_path("airflow-knative")


@dataclass(frozen=True)
class StatePaths:
    """The layout of a state folder."""

    root: Path

    @property
    def lock(self) -> Path:
        """Lock file of the guard and the supervisor."""
        return self.root / "lock"

    @property
    def settings(self) -> Path:
        """The settings of the last `up`."""
        return self.root / "settings.json"

    @property
    def secrets(self) -> Path:
        """Passwords and keys in text form."""
        return self.root / "secrets.json"

    @property
    def worker_secrets(self) -> Path:
        """One `NAME.env` for each Secret that a task's service names."""
        return self.root / "worker-secrets"

    @property
    def private_key(self) -> Path:
        """The executor's signing key."""
        return self.root / "keys" / "signing-key.pem"

    @property
    def public_key(self) -> Path:
        """What workers check signatures with."""
        return self.root / "keys" / "public-key.pem"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.root / "postgres"

    @property
    def run(self) -> Path:
        """Sockets and other things that mean nothing once all has ended."""
        return self.root / "run"

    @property
    def control(self) -> Path:
        """The supervisor's Unix socket."""
        return self.run / "control.sock"

    @property
    def activator(self) -> Path:
        """The activator's Unix socket for status and reload."""
        return self.run / "activator.sock"

    @property
    def services(self) -> Path:
        """What the activator serves."""
        return self.root / "services.json"

    @property
    def endpoints(self) -> Path:
        """What the executor reads."""
        return self.root / "endpoints.json"

    @property
    def problems(self) -> Path:
        """What is wrong with the DAGs, if anything."""
        return self.run / "problems.json"

    @property
    def migrated(self) -> Path:
        """What the database was last brought up to date for."""
        return self.root / "migrated"

    @property
    def logs(self) -> Path:
        """One log file for each part."""
        return self.root / "logs"

    @property
    def worker_logs(self) -> Path:
        """One log file for each worker."""
        return self.logs / "workers"

    @property
    def task_logs(self) -> Path:
        """Airflow's own task logs."""
        return self.logs / "tasks"

    @property
    def airflow_home(self) -> Path:
        """`AIRFLOW_HOME` of Airflow's own parts."""
        return self.root / "airflow"

    @property
    def worker_home(self) -> Path:
        """`AIRFLOW_HOME` of the workers, with nothing secret in it."""
        return self.root / "worker"

    @property
    def bytecode(self) -> Path:
        """Compiled Python, where the installation itself cannot be written to."""
        return self.root / "bytecode"

    def log(self, part: str) -> Path:
        """The log file of a part."""
        return self.logs / f"{part}.log"

    @property
    def is_state(self) -> bool:
        """Whether it has what only a state folder has, so that it may be changed and removed."""
        return self.lock.exists() or self.secrets.exists()

    def create(self) -> None:
        """Make the folders that are missing.

        Raises:
            LocalError: The folder cannot be made, belongs to someone else, or holds something else.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.root.stat()
            if status.st_uid != os.geteuid():
                raise LocalError(
                    f"the state folder {self.root} belongs to user {status.st_uid}, not to you; "
                    "name another with --state"
                )
            if not self.is_state and any(self.root.iterdir()):
                raise LocalError(
                    f"the state folder {self.root} holds something else already; it is left as it is. "
                    "Name an empty folder with --state, or one that does not exist"
                )
            self.root.chmod(0o700)
            # First of all, so that a start that is broken off leaves a folder that is known again.
            self.lock.touch(mode=0o600)
            for folder in (
                self.run,
                self.logs,
                self.worker_logs,
                self.task_logs,
                self.airflow_home,
                self.worker_home,
                self.worker_secrets,
                self.private_key.parent,
            ):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LocalError(
                f"the state folder {self.root} cannot be made: {error}; name another with --state"
            ) from None
