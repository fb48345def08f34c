"""Extract, transform and load with dynamic task mapping: as many transform tasks as the input has batches."""

from __future__ import annotations

from math import ceil
from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

MAX_BATCHES = 8


def checked_amounts(value: Any) -> list[float]:
    """Return the orders' values, and fail the task without retries if the input holds anything else."""
    allowed = 'allowed is an object of order id to value, such as {"1001": 301.27, "1002": 433.21}, or a list of values'
    amounts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(amounts, list) or not amounts:
        raise AirflowFailException(f"The input is {value!r}; {allowed}.")
    for amount in amounts:
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise AirflowFailException(f"The input has the value {amount!r}; {allowed}.")
    return amounts


@dag(
    dag_id="etl_mapped",
    schedule=None,
    catchup=False,
    tags=["example"],
    params={"data": Param({"1001": 301.27, "1002": 433.21, "1003": 502.22}, description="Order id -> value")},
)
def etl_mapped() -> Any:
    """Add up the orders at `params["data"]` in up to eight batches side by side."""

    @task
    def extract(params: dict[str, Any]) -> list[list[float]]:
        amounts = checked_amounts(params["data"])
        size = ceil(len(amounts) / MAX_BATCHES)
        return [amounts[start : start + size] for start in range(0, len(amounts), size)]

    # One service runs all batches: it scales out instead of there being a service for each.
    @task(multiple_outputs=False, executor_config={"knative": {"slots": 2, "max_scale": 4}})
    def transform(batch: list[float]) -> dict[str, Any]:
        return {"count": len(batch), "value": sum(batch)}

    @task(multiple_outputs=False)
    def load(parts: list[dict[str, Any]]) -> dict[str, Any]:
        parts = list(parts)
        return {
            "orders": sum(part["count"] for part in parts),
            "total_order_value": round(sum(part["value"] for part in parts), 2),
        }

    return load(transform.expand(batch=extract()))


etl_mapped()
