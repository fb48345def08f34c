"""The part of Airflow's public API that the commands read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import httpx

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from airflow_knative.cli.connection import Connection

__all__ = ["AirflowApi", "AirflowApiError"]

_PAGE: Final = 100
_TIMEOUT: Final = httpx.Timeout(30, connect=5)


class AirflowApiError(AirflowKnativeError):
    """Airflow's API refused or cannot be reached.

    Attributes:
        status: The HTTP status, 0 when there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class AirflowApi:
    """A client of `/api/v2`, logged in with user and password on first use."""

    def __init__(self, connection: Connection, *, transport: httpx.BaseTransport | None = None) -> None:
        if connection.airflow_url is None:
            raise AirflowApiError("no URL of Airflow's API server is known; give --airflow-url")
        self._url = connection.airflow_url
        self._login = {"username": connection.user, "password": connection.password}
        self._client = httpx.Client(base_url=self._url, timeout=_TIMEOUT, transport=transport, follow_redirects=True)

    def __enter__(self) -> Self:
        """Return itself; leaving closes the connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def run(self, dag_id: str, run_id: str | None) -> dict[str, Any]:
        """One run of a DAG, the latest when no run id is given.

        Raises:
            AirflowApiError: There is no such run, or Airflow cannot be asked.
        """
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns"
        if run_id is not None:
            run: dict[str, Any] = self._get(f"{path}/{quote(run_id, safe='')}")
            return run
        runs = self._get(path, order_by="-id", limit=1)["dag_runs"]
        if not runs:
            raise AirflowApiError(f"dag {dag_id!r} has no runs yet; start one with `airflow-knative run {dag_id}`", 404)
        return dict(runs[0])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Every task instance of a run, mapped ones each."""
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        return list(self._pages(path, "task_instances"))

    def tries(self, instance: dict[str, Any]) -> list[dict[str, Any]]:
        """The earlier tries of a task instance and its present one."""
        path = f"{_instance_path(instance)}/{instance['map_index']}/tries"
        found: list[dict[str, Any]] = self._get(path)["task_instances"]
        return found

    def log(self, instance: dict[str, Any], try_number: int) -> list[dict[str, Any]]:
        """The structured lines of a try's log; lines that are plain text are left out."""
        path = f"{_instance_path(instance)}/logs/{try_number}"
        answer = self._get(path, map_index=instance["map_index"], full_content="true")
        return [line for line in answer["content"] if isinstance(line, dict)]

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """The DAG's tasks, each with its `downstream_task_ids`."""
        found: list[dict[str, Any]] = self._get(f"/api/v2/dags/{quote(dag_id, safe='')}/tasks")["tasks"]
        return found

    def _pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self._get(path, limit=_PAGE, offset=offset)
            yield from page[key]
            offset += len(page[key])
            if not page[key] or offset >= page["total_entries"]:
                return

    def _get(self, path: str, **query: str | int) -> Any:
        if "Authorization" not in self._client.headers:
            token = self._send("POST", "/auth/token", json=self._login)["access_token"]
            self._client.headers["Authorization"] = f"Bearer {token}"
        return self._send("GET", path, params=query)

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise AirflowApiError(
                f"Airflow's API server at {self._url} cannot be reached ({error or type(error).__name__}); "
                "start it (`airflow-knative local up`) or give --airflow-url"
            ) from None
        if response.is_success:
            return response.json()
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise AirflowApiError(
                f"Airflow at {self._url} does not know the user {self._login['username']!r} with this password", 401
            )
        raise AirflowApiError(
            f"Airflow at {self._url} answered {response.status_code} to {method} {path}: {_detail(response)}",
            response.status_code,
        )


def _instance_path(instance: dict[str, Any]) -> str:
    dag_id, run_id, task_id = (quote(instance[key], safe="") for key in ("dag_id", "dag_run_id", "task_id"))
    return f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
    return str(detail)
