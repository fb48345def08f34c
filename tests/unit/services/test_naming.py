from __future__ import annotations

import re

import pytest

from airflow_knative.services.naming import service_name

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def test_name_reads_like_the_ids() -> None:
    name = service_name("compute_avg_distributed", "compute_count")
    assert name == "airflow-worker-compute-avg-distributed-compute-count"


def test_name_of_a_whole_dag() -> None:
    assert service_name("compute_avg", None) == "airflow-worker-compute-avg"


def test_case_is_folded() -> None:
    assert service_name("ETL", "Load") == "airflow-worker-etl-load"


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        ("d", "group.task"),
        ("d", "trailing_"),
        ("d" * 250, "t" * 250),
        ("d", "übung"),
        ("d", "-"),
        ("a" * 31, "b" * 19),
        ("..", "--"),
    ],
)
def test_every_name_is_a_dns_label(dag_id: str, task_id: str) -> None:
    assert _LABEL.fullmatch(service_name(dag_id, task_id))


def test_longest_plain_name_is_not_cut() -> None:
    task_id = "t" * (63 - len("airflow-worker-d-"))
    assert service_name("d", task_id) == f"airflow-worker-d-{task_id}"
    assert service_name("d", task_id + "t") != f"airflow-worker-d-{task_id}t"


@pytest.mark.parametrize(
    "pair",
    [
        ("group.task", "group_task"),
        ("t" * 100, "t" * 101),
        ("x" * 100 + "a", "x" * 100 + "b"),
        ("a.b", "a:b"),
        ("end", "end_"),
    ],
)
def test_cut_and_folded_names_do_not_meet(pair: tuple[str, str]) -> None:
    first, second = (service_name("dag", task_id) for task_id in pair)
    assert first != second


def test_hash_is_stable() -> None:
    # Services that exist are found by this name: it must never change.
    assert service_name("dag", "group.task") == "airflow-worker-dag-group-task-186ba99c"
