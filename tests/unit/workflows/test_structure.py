from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.mappedoperator import MappedOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Workflow = Callable[[str], ModuleType]

WIDTHS = (1, 2, 4, 8, 16, 24, 48)
DEPTHS = (2, 3, 4, 8, 16)


@pytest.fixture(scope="session")
def example(workflow: Workflow) -> Callable[[str, str], DAG]:
    def find(file: str, dag_id: str) -> DAG:
        module = workflow(file)
        # The files make their DAGs without naming them, so they are made once more here.
        dag = getattr(module, dag_id)()
        assert isinstance(dag, DAG)
        assert dag.dag_id == dag_id
        return dag

    return find


def edges(dag: DAG) -> dict[str, set[str]]:
    return {task_id: set(task.downstream_task_ids) for task_id, task in dag.task_dict.items()}


def results(dag: DAG) -> list[str]:
    return [task_id for task_id, task in dag.task_dict.items() if task.returns_dag_result]


def test_avg_distributed_counts_and_sums_side_by_side(example: Callable[[str, str], DAG]) -> None:
    dag = example("avg_distributed", "compute_avg_distributed")
    assert edges(dag) == {
        "extract": {"compute_count", "compute_sum"},
        "compute_count": {"do_avg"},
        "compute_sum": {"do_avg"},
        "do_avg": set(),
    }
    assert results(dag) == ["do_avg"]


@pytest.mark.parametrize(
    ("file", "dag_id", "result"),
    [("avg", "compute_avg", "do_avg"), ("etl", "etl", "load"), ("etl_mapped", "etl_mapped", "load")],
)
def test_the_last_task_gives_the_answer(
    example: Callable[[str, str], DAG], file: str, dag_id: str, result: str
) -> None:
    dag = example(file, dag_id)
    assert results(dag) == [result]
    assert [task.task_id for task in dag.leaves] == [result]


def test_etl_mapped_maps(example: Callable[[str, str], DAG]) -> None:
    dag = example("etl_mapped", "etl_mapped")
    assert isinstance(dag.task_dict["transform"], MappedOperator)


def test_the_rivals_twin_differs_in_its_executor_alone(example: Callable[[str, str], DAG]) -> None:
    seed = example("avg_distributed", "compute_avg_distributed")
    twin = example("avg_kubernetes", "compute_avg_distributed_kubernetes")
    assert edges(twin) == edges(seed)
    assert results(twin) == results(seed)
    for task_id, task in twin.task_dict.items():
        assert (seed.task_dict[task_id].executor, task.executor) == (None, "KubernetesExecutor")
        assert inspect.getsource(task.python_callable) == inspect.getsource(seed.task_dict[task_id].python_callable)


def test_the_rivals_twin_checks_its_input_the_same_way(workflow: Workflow) -> None:
    checks = [inspect.getsource(workflow(name).checked_numbers) for name in ("avg_kubernetes", "avg_distributed")]
    assert checks[0] == checks[1]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_benchmark_is_as_deep_as_it_says(workflow: Workflow, width: int, depth: int) -> None:
    dag = workflow("benchmark").build(width, depth)
    assert dag.dag_id == f"benchmark_w{width}_d{depth}"
    chain = [dag.roots[0]]
    while chain[-1].downstream_list:
        (following,) = chain[-1].downstream_list
        chain.append(following)
    assert len(chain) == len(dag.task_dict) == depth
    assert results(dag) == ["total"]
    assert dag.max_active_tasks >= width


def test_benchmarks_are_as_deep_or_as_wide_as_any_scenario(workflow: Workflow) -> None:
    module = workflow("benchmark")
    assert set(module.SHAPES) == {(1, depth) for depth in DEPTHS} | {(width, 3) for width in WIDTHS}


@pytest.mark.parametrize("name", ["avg", "avg_distributed", "etl", "etl_mapped", "benchmark"])
def test_nothing_runs_by_a_timetable(workflow: Workflow, name: str) -> None:
    module = workflow(name)
    made = (
        [module.build(2, 3)] if name == "benchmark" else [value() for value in vars(module).values() if is_dag(value)]
    )
    assert made
    assert all(dag.schedule is None for dag in made)


def is_dag(value: object) -> bool:
    return callable(value) and getattr(value, "__module__", "").startswith("example_") and hasattr(value, "__wrapped__")
