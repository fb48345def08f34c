"""Requests as the tests send them."""

from __future__ import annotations

from typing import Any

from airflow_knative.wire import ExecutionApi, Fence, Inputs, TaskRequest

TI_ID = "01a2032d-f1ad-75ae-8c56-e25e404fe0f7"


def make_request(**changes: Any) -> TaskRequest:
    ti = {
        "id": TI_ID,
        "dag_id": "d",
        "task_id": "t",
        "run_id": "manual__2026-01-01T00:00:00+00:00",
        "try_number": 1,
        "map_index": -1,
        "dag_version_id": "01a2032d-f1ad-75ae-8c56-e25e404fe0f8",
    }
    fields: dict[str, Any] = {
        "turn": "first",
        "dag_rel_path": "d.py",
        "bundle_name": "dags-folder",
        "context": {"the": "context"},
        "api_version": "2026-06-30",
        "inputs": Inputs(tasks=["t", "up"]),
        "execution_api": ExecutionApi(url="http://api:8080/execution/", token="task-token"),
        "fence": Fence(hostname="scheduler", pid=77),
    }
    return TaskRequest(**(fields | {"ti": ti | changes.pop("ti", {})} | changes))
