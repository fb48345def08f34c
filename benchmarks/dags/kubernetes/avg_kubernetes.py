"""The seed workflow once more, with a pod of KubernetesExecutor for each task: a rival on the same cluster.

A release that has it names both executors, ours first. The code is that of workflows/avg_distributed.py.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException


def checked_numbers(value: Any) -> list[float]:
    """Return the input if it is a list of numbers, and fail the task without retries if it is not."""
    allowed = "allowed is a list of at least one number, such as [1, 2, 3, 4]"
    if not isinstance(value, list) or not value:
        raise AirflowFailException(f"The input is {value!r}; {allowed}.")
    for index, number in enumerate(value):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise AirflowFailException(f"The input has {number!r} at index {index}; {allowed}.")
    return value


@dag(
    dag_id="compute_avg_distributed_kubernetes",
    schedule=None,
    catchup=False,
    tags=["benchmark"],
    default_args={"executor": "KubernetesExecutor"},
    params={"data": Param([1, 2, 3, 4], description="The numbers to average")},
)
def compute_avg_distributed_kubernetes() -> Any:
    """Average the numbers at `params["data"]`: `[1, 2, 3, 4]` gives 2.5."""

    @task
    def extract(params: dict[str, Any]) -> list[float]:
        return checked_numbers(params["data"])

    @task
    def compute_count(numbers: list[float]) -> int:
        return len(numbers)

    @task
    def compute_sum(numbers: list[float]) -> float:
        return sum(numbers)

    @task
    def do_avg(total: float, count: int) -> float:
        return total / count

    numbers = extract()
    return do_avg(compute_sum(numbers), compute_count(numbers))


compute_avg_distributed_kubernetes()
