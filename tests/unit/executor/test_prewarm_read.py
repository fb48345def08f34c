"""A DAG's structure as the scheduler has it, and a run's progress."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_knative.executor.prewarm_plan import Node, Progress
from airflow_knative.executor.prewarm_read import _node, _progress

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def nodes() -> dict[str, Node]:
    with DAG("d", schedule=None) as dag:

        @task.branch
        def branch() -> str:
            return "plain"

        @task.short_circuit
        def short() -> bool:
            return True

        @task(trigger_rule="none_failed_min_one_success")
        def plain(value: Any = None) -> None:
            """Do nothing."""

        @task.short_circuit
        def mapped_short(value: int) -> bool:
            return bool(value)

        first = branch()
        first >> plain()
        first >> EmptyOperator(task_id="empty") >> FileSensor(task_id="sensor", filepath="/nowhere")
        short() >> plain.override(task_id="mapped").expand(value=[1, 2])
        mapped_short.expand(value=[1, 2])
    return {each.task_id: _node(each) for each in DagSerialization.from_dict(DagSerialization.to_dict(dag)).tasks}


def test_what_may_skip_tasks_decides(nodes: dict[str, Node]) -> None:
    assert {name for name, node in nodes.items() if node.decides} == {"branch", "short", "mapped_short"}


def test_sensors_wait(nodes: dict[str, Node]) -> None:
    assert {name for name, node in nodes.items() if node.waits} == {"sensor"}


def test_empty_operators_need_no_worker(nodes: dict[str, Node]) -> None:
    assert {name for name, node in nodes.items() if not node.runs} == {"empty"}


def test_the_edges_and_rules_are_the_dags(nodes: dict[str, Node]) -> None:
    assert nodes["branch"].downstream == {"plain", "empty"}
    assert nodes["mapped"].upstream == {"short"}
    assert nodes["plain"].trigger_rule == "none_failed_min_one_success"
    assert nodes["branch"].trigger_rule == "all_success"


def test_a_tasks_instances_are_taken_together() -> None:
    rows = [
        ("mapped", "running", 2, NOON),
        ("mapped", "queued", 1, None),
        ("mapped", None, 3, None),
        ("mapped", "success", 4, NOON),
    ]
    assert _progress(rows) == {
        "mapped": Progress(unfinished=6, started=NOON.timestamp(), is_active=True, succeeded=True)
    }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, Progress(unfinished=1)),
        ("scheduled", Progress(unfinished=1, is_active=True)),
        ("deferred", Progress(unfinished=1, is_waiting=True)),
        ("up_for_retry", Progress(unfinished=1, is_waiting=True)),
        ("success", Progress(succeeded=True)),
        ("failed", Progress(failed=True)),
        ("upstream_failed", Progress(failed=True)),
        ("skipped", Progress(skipped=True)),
    ],
)
def test_states(state: str | None, expected: Progress) -> None:
    assert _progress([("one", state, 1, None)]) == {"one": expected}
