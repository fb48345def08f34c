# ruff: noqa: INP001 # Ansible finds it by its folder
"""Filters that tell what deployed workflows still wait for."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def services_waiting(services: Iterable[Mapping[str, Any]], wanted: Iterable[str]) -> list[str]:
    """Name the Knative Services that are not ready, each with Knative's own reason.

    Args:
        services: As the Kubernetes API gives them.
        wanted: Names of those that must be there.
    """
    found = {service["metadata"]["name"]: service for service in services}
    return [f"{name}: {reason}" for name in sorted({*wanted, *found}) for reason in _reasons(found.get(name))]


def _reasons(service: Mapping[str, Any] | None) -> Iterator[str]:
    if service is None:
        yield "does not exist"
        return
    status = service.get("status", {})
    if status.get("observedGeneration") != service["metadata"]["generation"]:
        yield "Knative has not looked at it yet"
        return
    for condition in status.get("conditions", []):
        if condition["type"] == "Ready":
            if condition["status"] != "True":
                yield ", ".join(filter(None, [condition.get("reason"), condition.get("message")])) or "is not ready"
            return
    yield "is not ready"


def dags_waiting(listed: str, wanted: Iterable[str], since: str) -> list[str]:
    """Name the DAGs that Airflow has not read since a moment.

    Args:
        listed: What `airflow dags list --output json` with the columns dag_id and last_parsed_time said.
        wanted: Ids of DAGs.
        since: A moment in ISO 8601.
    """
    start = listed.find("[{")
    rows = json.JSONDecoder().raw_decode(listed[start:])[0] if start >= 0 else []
    read = {row["dag_id"]: row["last_parsed_time"] for row in rows}
    return sorted(
        name
        for name in set(wanted)
        if not read.get(name) or datetime.fromisoformat(read[name]) < datetime.fromisoformat(since)
    )


def workflow_calls(dags: Iterable[str], url: str) -> list[str]:
    """Write down a call of each workflow.

    Args:
        dags: Their ids.
        url: The gateway's.
    """
    call = "curl -u USER:PASSWORD -H 'Content-Type: application/json' --data '{\"input\": ...}'"
    return [f"{call} {url}/runWorkflow/{dag}" for dag in dags]


class FilterModule:
    """Gives Ansible the filters above."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name them."""
        return {
            "services_waiting": services_waiting,
            "dags_waiting": dags_waiting,
            "workflow_calls": workflow_calls,
        }
