"""What is said of pods that do not run: each by its name, with the cluster's own reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[3] / "roles" / "rollout" / "filter_plugins" / "rollout.py"


def _reasons(*pods: dict[str, Any]) -> list[str]:
    spec = importlib.util.spec_from_file_location("rollout_filter", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.FilterModule().filters()["rollout_reasons"](pods)
    return found


def _pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web-1"}, "status": {"phase": "Pending", **status}}


def _container(**container: Any) -> dict[str, Any]:
    return {"name": "web", "ready": False, **container}


def test_pods_that_run_or_have_ended_well_are_not_named() -> None:
    ready = _pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert _reasons(ready, _pod(phase="Succeeded")) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient cpu.",
                    }
                ]
            },
            "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            {
                "containerStatuses": [
                    _container(state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image x"}})
                ]
            },
            "container web waits, ImagePullBackOff: Back-off pulling image x",
        ),
        (
            {
                "containerStatuses": [
                    _container(
                        state={"waiting": {"reason": "CrashLoopBackOff"}},
                        lastState={"terminated": {"exitCode": 1, "reason": "Error", "message": "no such file\n"}},
                    )
                ]
            },
            "container web waits, CrashLoopBackOff; its last run ended with 1, Error: no such file",
        ),
        (
            {
                "initContainerStatuses": [
                    {"name": "first", "ready": True, "state": {"terminated": {"exitCode": 0}}},
                    {"name": "second", "ready": False, "state": {"terminated": {"exitCode": 2, "reason": "Error"}}},
                ]
            },
            "container second ended with 2, Error",
        ),
        (
            {"phase": "Running", "containerStatuses": [_container(state={"running": {}})]},
            "container web runs and is not ready",
        ),
        ({"reason": "Evicted", "message": "The node was low on memory."}, "Evicted: The node was low on memory."),
        ({}, "phase Pending"),
    ],
)
def test_a_pod_that_does_not_run_is_named_with_the_reason(status: dict[str, Any], said: str) -> None:
    assert _reasons(_pod(**status)) == [f"pod web-1: {said}"]
