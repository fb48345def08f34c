"""Which service runs which task."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator

__all__ = ["Endpoint", "Endpoints", "FileEndpoints", "NoEndpointError", "open_endpoints"]

_FORMS: Final = "file:///path/to/endpoints.json, kubernetes: and kubernetes://namespace"


class NoEndpointError(AirflowKnativeError):
    """No service is known for a task."""


class Endpoint(BaseModel):
    """Where one task's service is reached."""

    model_config = ConfigDict(frozen=True)

    dag_id: str
    task_id: str | None = None
    """None serves every task of the DAG."""
    name: str
    """Of the Knative Service: the audience of signed requests."""
    url: str
    """Where to connect, scheme and authority."""
    host: str | None = None
    """The Host header, where it differs from the URL's."""
    timeout: float = 600.0
    """The service's `timeoutSeconds`."""
    slots: int = 1
    """Requests that one pod takes at once: `containerConcurrency`."""
    max_scale: int = 0
    """Pods at most; 0 is as many as it takes."""
    window: float = 60.0
    """Seconds without a request after which the last pod goes."""
    revision: str | None = ""
    """What serves now; None while another is about to, which may have no pod yet."""


class Endpoints(Protocol):
    """A source of endpoints."""

    def find(self, dag_id: str, task_id: str) -> Endpoint:
        """Return the endpoint of a task.

        Raises:
            NoEndpointError: there is none, as far as is known now.
        """
        ...

    def known(self, dag_id: str, task_id: str) -> Endpoint | None:
        """Return the endpoint of a task; None if none is known, about which nothing is done.

        For whoever asks about tasks that may be another executor's.
        """
        ...


class _File(BaseModel):
    services: list[Endpoint]


class FileEndpoints:
    """Endpoints listed in a JSON file, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Look tasks up in the file at `path`."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._services: dict[tuple[str, str | None], Endpoint] = {}

    def find(self, dag_id: str, task_id: str) -> Endpoint:
        """Return the endpoint of a task: its own, else its DAG's.

        Raises:
            NoEndpointError: the file names none, or cannot be read.
        """
        self._refresh()
        endpoint = self._look_up(dag_id, task_id)
        if endpoint is None:
            raise NoEndpointError(
                f"No Knative Service for task {task_id!r} of DAG {dag_id!r} in {self._path} ([knative] endpoints). "
                "Deploy the workflow's services; `airflow-knative services render` lists them."
            )
        return endpoint

    def known(self, dag_id: str, task_id: str) -> Endpoint | None:
        """Return the endpoint of a task; None if the file names none, or cannot be read."""
        try:
            self._refresh()
        except NoEndpointError:
            return None
        return self._look_up(dag_id, task_id)

    def _look_up(self, dag_id: str, task_id: str) -> Endpoint | None:
        return self._services.get((dag_id, task_id)) or self._services.get((dag_id, None))

    def _refresh(self) -> None:
        try:
            stamp = _stamp(self._path.stat())
            if stamp == self._stamp:
                return
            services = _File.model_validate(json.loads(self._path.read_bytes())).services
        except (OSError, ValueError, ValidationError) as error:
            raise NoEndpointError(f"{self._path} ([knative] endpoints) cannot be read: {error}") from error
        self._services = {(service.dag_id, service.task_id): service for service in services}
        self._stamp = stamp


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino


@asynccontextmanager
async def open_endpoints(location: str) -> AsyncIterator[Endpoints]:
    """Yield the source that `[knative] endpoints` names.

    Raises:
        AirflowKnativeError: the location has no known form, or one that does not work here.
    """
    parts = urlsplit(location)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        yield FileEndpoints(Path(unquote(parts.path)))
        return
    if parts.scheme == "kubernetes" and not parts.path.strip("/") and not parts.query:
        # Not at import: who names a file needs none of it.
        from airflow_knative.executor.endpoints_kubernetes import KubernetesEndpoints  # noqa: PLC0415
        from airflow_knative.executor.kubernetes import Cluster  # noqa: PLC0415

        async with KubernetesEndpoints(Cluster.of_this_pod(), parts.netloc or None) as endpoints:
            yield endpoints
        return
    raise AirflowKnativeError(f"[knative] endpoints is {location!r}; allowed are {_FORMS}.")
