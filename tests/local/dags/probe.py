"""Tasks that show what a worker does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from airflow.sdk import Variable, dag, task


@task
def quick(params: dict | None = None) -> int:
    print("printed by the task")  # noqa: T201
    return params["data"] + 1


@task
def sleeper(params: dict | None = None) -> str:
    where = Path(params["data"])
    where.write_text(str(os.getpid()))
    try:
        time.sleep(120)
    finally:
        where.with_suffix(".ended").touch()
    return "slept"


@task
def forks(params: dict | None = None) -> None:
    """Leaves a process behind, in a session of its own."""
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    Path(params["data"]).write_text(str(child.pid))


@task
def forks_and_sleeps(params: dict | None = None) -> None:
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    Path(params["data"]).write_text(f"{child.pid} {os.getpid()}")
    time.sleep(120)


@task
def reads_variable() -> str:
    return Variable.get("greeting")


@task
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def environment() -> dict[str, str]:
    return dict(os.environ)


@dag(dag_id="probe", schedule=None, params={"data": 1})
def probe() -> None:
    quick()
    sleeper()
    forks()
    forks_and_sleeps()
    reads_variable()
    dies()
    environment()


probe()
