"""A caller of workflows."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx

__all__ = ["Gateway", "Run", "RunError"]


class RunError(Exception):
    """A run did not answer as it has to."""


class Run(NamedTuple):
    """A run that has ended: what its caller waited, and its id."""

    milliseconds: float
    run_id: str


class Gateway:
    """Runs workflows through a gateway."""

    def __init__(self, url: str, user: str, password: str, *, host: str | None = None) -> None:
        """Call the gateway at `url` as `user`; `host` is its name, where the URL has the address before it."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        headers = {} if host is None else {"host": host}
        self._client = httpx.Client(base_url=url, auth=(user, password), headers=headers, timeout=600.0, limits=limits)

    def run(self, dag_id: str, data: Any, output: Any) -> Run:
        """Run a workflow once.

        Raises:
            RunError: It failed, or its output is another one.
        """
        begun = time.perf_counter()
        response = self._client.post(f"/runWorkflow/{dag_id}", json={"input": data})
        took = (time.perf_counter() - begun) * 1000
        if response.status_code != httpx.codes.OK or response.json() != {"output": output}:
            raise RunError(
                f"{dag_id} answered {response.status_code}: {response.text[:2000]}, not {json.dumps(output)}"
            )
        return Run(took, response.headers["airflow-run-id"])

    def run_many(self, dag_id: str, data: Any, output: Any, *, count: int, at_once: int) -> list[Run]:
        """Run a workflow `count` times, `at_once` at a time."""
        if at_once == 1:
            return [self.run(dag_id, data, output) for _ in range(count)]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda _: self.run(dag_id, data, output), range(count)))

    def close(self) -> None:
        """Close its connections."""
        self._client.close()
