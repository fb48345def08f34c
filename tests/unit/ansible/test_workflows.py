"""What deployed workflows still wait for."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Any

import pytest


def _filters() -> dict[str, Any]:
    path = Path(__file__).parents[3] / "roles" / "workflows" / "filter_plugins" / "workflows.py"
    spec = importlib.util.spec_from_file_location("workflows_filter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.FilterModule().filters())


services_waiting = _filters()["services_waiting"]
dags_waiting = _filters()["dags_waiting"]


def _service(name: str, ready: str = "True", generation: int = 1, observed: int = 1, **said: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "generation": generation},
        "status": {
            "observedGeneration": observed,
            "conditions": [{"type": "RoutesReady", "status": "True"}, {"type": "Ready", "status": ready, **said}],
        },
    }


def test_nothing_waits_when_every_service_is_ready() -> None:
    assert services_waiting([_service("a"), _service("b")], ["a"]) == []


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (_service("a", "False", reason="RevisionMissing", message="no image"), "a: RevisionMissing, no image"),
        (_service("a", "Unknown"), "a: is not ready"),
        # What is ready is the service as it was before.
        (_service("a", generation=2), "a: Knative has not looked at it yet"),
        ({"metadata": {"name": "a", "generation": 1}}, "a: Knative has not looked at it yet"),
        (
            {"metadata": {"name": "a", "generation": 1}, "status": {"observedGeneration": 1}},
            "a: is not ready",
        ),
    ],
)
def test_a_service_that_is_not_ready_is_named_with_the_reason(service: dict[str, Any], reason: str) -> None:
    assert services_waiting([service], ["a"]) == [reason]


def test_a_service_that_is_not_there_is_named() -> None:
    assert services_waiting([_service("a")], ["a", "b"]) == ["b: does not exist"]


LISTED = """2026-11-25T07:00:00.000000Z [warning  ] said by something else [loc]
[{"dag_id": "new", "last_parsed_time": "2026-11-25 07:10:01.5+00:00"},
 {"dag_id": "old", "last_parsed_time": "2026-11-25 07:09:00+00:00"},
 {"dag_id": "never", "last_parsed_time": null}]
"""


def test_dags_wait_until_they_are_read_anew() -> None:
    assert dags_waiting(LISTED, ["new", "old", "never", "unknown"], "2026-11-25T07:10:00Z") == [
        "never",
        "old",
        "unknown",
    ]
    assert dags_waiting(LISTED, ["new"], "2026-11-25T07:10:00Z") == []


def test_every_dag_waits_when_airflow_says_nothing() -> None:
    assert dags_waiting("No data found\n", ["new"], "2026-11-25T07:10:00Z") == ["new"]


def test_calls_can_be_copied_into_a_shell() -> None:
    (call,) = _filters()["workflow_calls"](["greet"], "http://gateway.example")
    assert shlex.split(call)[-2:] == ['{"input": ...}', "http://gateway.example/runWorkflow/greet"]
