"""A whole local instance for the tests: real Airflow, real PostgreSQL, real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from .workers import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKFLOWS = Path(__file__).parents[2] / "workflows"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "dags"
DAGS = Path(__file__).parent / "dags"
COMMAND = [sys.executable, "-m", "airflow_knative.cli"]


# So that tests need not wait for what takes its time in earnest.
QUICK = {
    "AIRFLOW__KNATIVE__HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__KNATIVE__LOST_WORKER_TIMEOUT": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
}


class Stack:
    """A running instance, its gateway and Airflow's API."""

    def __init__(self, folder: Path, workflows: Path) -> None:
        self.state = folder / "state"
        self.workflows = workflows
        self.user = ("admin", "admin")
        self.gateway = httpx.Client()
        self.airflow = httpx.Client()

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `airflow-knative` with this instance's state folder."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        return subprocess.run(
            [*COMMAND, *arguments, "--state", str(self.state)],
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def up(self, *options: str, **settings: str) -> None:
        """Start it, with further options of `local up` and `settings` of Airflow's, as environment variables."""
        workflows = ("--workflows", str(self.workflows))
        done = self.command("local", "up", *workflows, "--port-base", "0", *options, **{**QUICK, **settings})
        assert done.returncode == 0, done.stdout + done.stderr
        urls = self.status()["urls"]
        self.gateway = httpx.Client(base_url=urls["gateway"], auth=self.user, timeout=120.0)
        self.airflow = httpx.Client(base_url=urls["ui"], timeout=60.0)
        token = self.airflow.post("/auth/token", json={"username": "admin", "password": "admin"}).json()
        self.airflow.headers["authorization"] = f"Bearer {token['access_token']}"

    def status(self) -> dict[str, Any]:
        """Return what `local status --json` says."""
        done = self.command("local", "status", "--json")
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def down(self) -> None:
        """Stop it."""
        for client in (self.gateway, self.airflow):
            client.close()
        done = self.command("local", "down")
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def running(self, *options: str, **settings: str) -> Iterator[Self]:
        """Start it as `up` does, and stop it in the end, even if it did not come up."""
        try:
            self.up(*options, **settings)
            yield self
        finally:
            self.down()

    def run(self, dag_id: str, data: Any = None) -> httpx.Response:
        """Run a workflow through the gateway."""
        return self.gateway.post(f"/runWorkflow/{dag_id}", json={"input": data})

    def start(self, dag_id: str, data: Any = None) -> str:
        """Start a workflow and return the run id."""
        response = self.gateway.post(
            f"/runWorkflow/{dag_id}", json={"input": data}, headers={"prefer": "respond-async"}
        )
        assert response.status_code == 202, response.text
        return str(response.headers["location"]).rsplit("/", 1)[1]

    def api(self, path: str) -> Any:
        """GET something from Airflow's API."""
        response = self.airflow.get(f"/api/v2/{path}")
        response.raise_for_status()
        return response.json()

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return a task instance."""
        result: dict[str, Any] = self.api(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return result

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """Return a task's log as Airflow's API has it."""
        return json.dumps(self.api(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"))

    def wait_for(self, dag_id: str, run_id: str, *states: str, within: float = 90.0) -> str:
        """Wait until a run is in one of `states`."""

        def state() -> str | None:
            found = str(self.api(f"dags/{dag_id}/dagRuns/{run_id}")["state"])
            return found if found in states else None

        return str(eventually(state, within=within))

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, within: float = 90.0
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of `states`."""

        def ti() -> dict[str, Any] | None:
            found = self.task(dag_id, run_id, task_id)
            return found if found["state"] in states else None

        found: dict[str, Any] = eventually(ti, within=within)
        return found


def written(path: Path) -> Callable[[], str]:
    """Return a condition for `eventually`: the text of a file, once it has any."""
    return lambda: path.read_text() if path.exists() else ""
