"""The services that a folder of DAGs needs.

The DAGs are imported in a process of their own: what they and Airflow do on import (signal handlers, log handlers,
`sys.path`, a configuration file in `AIRFLOW_HOME`) stays there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

from airflow_knative.services.model import ServicesError, ServiceSpec

__all__ = ["Granularity", "load"]

Granularity = Literal["task", "dag"]
_TAIL_LINES: Final = 20


def load(
    dags: Path,
    granularity: Granularity = "task",
    *,
    max_timeout: int | None = None,
    python: str = sys.executable,
) -> list[ServiceSpec]:
    """Import a folder of DAGs and list the services that their tasks need.

    Tasks that never reach an executor (an EmptyOperator without callbacks, inlets and outlets) and tasks of another
    executor need none. The environment's Airflow settings hold; without `AIRFLOW_HOME` an empty one is used.

    Args:
        dags: The dags folder.
        granularity: One service per task, or one per DAG.
        max_timeout: Seconds: the longest timeout that the cluster allows, if that is to be checked.
        python: The interpreter that imports the DAGs; it needs this package and Airflow.

    Returns:
        The services, sorted by name.

    Raises:
        ServicesError: With one problem for each file that cannot be imported, each DAG id that occurs twice, each
            wrong setting and each pair of services with the same name.
    """
    folder = dags.resolve()
    if not folder.is_dir():
        raise ServicesError([f"the dags folder {str(dags)!r} is not a folder; name one that exists"])
    with tempfile.TemporaryDirectory(prefix="airflow-knative-") as home:
        command = [python, "-m", "airflow_knative.services._collect", str(folder), granularity, str(max_timeout or 0)]
        done = subprocess.run(
            command, env=_environment(folder, Path(home)), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise ServicesError([_crash(done)]) from None
    if answer["problems"]:
        raise ServicesError(answer["problems"])
    return [ServiceSpec.model_validate(service) for service in answer["services"]]


def _environment(folder: Path, home: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        **os.environ,
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }


def _crash(done: subprocess.CompletedProcess[bytes]) -> str:
    errors = done.stderr.decode(errors="replace")
    if "No module named 'airflow'" in errors:
        return "Airflow is not installed beside airflow-knative; install airflow-knative[worker]"
    tail = "\n".join(errors.splitlines()[-_TAIL_LINES:])
    return (
        f"the process that imports the DAGs ended with exit code {done.returncode} and no answer; it last said:\n{tail}"
    )
