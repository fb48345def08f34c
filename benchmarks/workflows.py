"""The folders of workflows that instances are started with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.deployment import ROOT
from benchmarks.scenarios import SEED, Flavour

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_workflows"]

_BALLAST = '''"""Tasks that are never run: each has a service."""

from airflow.sdk import DAG, task

with DAG("ballast", schedule=None):

    @task
    def nothing() -> None:
        pass

    for number in range({count}):
        nothing.override(task_id=f"nothing_{{number}}")()
'''


def write_workflows(folder: Path, flavour: Flavour) -> None:
    """Fill a folder with what a flavour names."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = (ROOT / "workflows" / "avg_distributed.py").read_text()
    files = {"avg_distributed.py": seed}
    if flavour.services is None:
        files["benchmark.py"] = (ROOT / "benchmarks/dags/benchmark.py").read_text()
    elif flavour.services:
        files["ballast.py"] = _BALLAST.format(count=flavour.services)
    for number in range(flavour.copies):
        files[f"copy_{number}.py"] = seed.replace(f'dag_id="{SEED}"', f'dag_id="{SEED}_{number}"')
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
