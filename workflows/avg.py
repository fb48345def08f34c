"""The average of a list of numbers, in one task between reading and answering."""

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
    dag_id="compute_avg",
    schedule=None,
    catchup=False,
    tags=["example"],
    params={"data": Param([1, 2, 3, 4], description="The numbers to average")},
)
def compute_avg() -> Any:
    """Average the numbers at `params["data"]`: `[1, 2, 3, 4]` gives 2.5."""

    @task
    def extract(params: dict[str, Any]) -> list[float]:
        return checked_numbers(params["data"])

    @task
    def do_avg(numbers: list[float]) -> float:
        return sum(numbers) / len(numbers)

    return do_avg(extract())


compute_avg()
