"""The services of a folder of DAGs, written down for the activator and the executor.

Run as `python -m airflow_knative.local.render STATE KEY` in the workers' environment. Exit code 3 means that the DAGs
are wrong: the problems are then written down, and the services left as they were.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_knative.local.catalog import Service, save_services
from airflow_knative.local.files import write_atomically
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.settings import LocalSettings
from airflow_knative.local.watch import relevant_files
from airflow_knative.services.inspect import load
from airflow_knative.services.model import ServicesError, ServiceSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EXIT_PROBLEMS", "main", "services_of"]

EXIT_PROBLEMS: Final = 3
_LARGE: Final = 1024 * 1024
"""Bytes above which a file's time of change stands for its content."""


def services_of(specs: Iterable[ServiceSpec], folder: Path) -> list[Service]:
    """What the activator is to run, each with a revision that changes when its workers must be replaced."""
    specs = list(specs)
    digests = _code_digests(folder, {spec.file for spec in specs})
    return [
        Service(
            name=spec.name,
            revision=_revision(spec, digests[spec.file]),
            dag_id=spec.dag_id,
            task_id=spec.task_id,
            file=spec.file,
            slots=spec.slots,
            min_scale=spec.min_scale,
            max_scale=spec.max_scale,
            window=spec.window,
            timeout=spec.timeout,
            env=spec.env,
            secrets=tuple(spec.secrets),
        )
        for spec in specs
    ]


def main() -> int:
    """Entry point."""
    paths = StatePaths(Path(sys.argv[1]))
    settings = LocalSettings.load(paths.settings)
    try:
        specs = load(settings.workflows, settings.granularity)
    except ServicesError as error:
        write_atomically(paths.problems, json.dumps(list(error.problems)))
        return EXIT_PROBLEMS
    save_services(paths.services, services_of(specs, settings.workflows), key=sys.argv[2])
    paths.problems.unlink(missing_ok=True)
    return 0


def _code_digests(folder: Path, dag_files: set[str]) -> dict[str, str]:
    """For each DAG file a digest of what its workers may read: itself, and every file that is no DAG file."""
    shared = hashlib.sha256()
    for name, status in sorted(relevant_files(folder).items()):
        if name not in dag_files:
            content = _content(folder / name) if status.st_size <= _LARGE else f"{status.st_mtime_ns}".encode()
            shared.update(f"{name}\0{len(content)}\0".encode() + content)
    return {name: hashlib.sha256(shared.digest() + _content(folder / name)).hexdigest() for name in dag_files}


def _revision(spec: ServiceSpec, code: str) -> str:
    return hashlib.sha256(f"{spec.model_dump_json()}\n{code}".encode()).hexdigest()[:10]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


if __name__ == "__main__":
    sys.exit(main())
