"""Extract, transform and load: the total value of a set of orders."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException


def checked_orders(value: Any) -> dict[str, float]:
    """Return order id -> value, and fail the task without retries if the input holds anything else."""
    allowed = 'allowed is an object of order id to value, such as {"1001": 301.27, "1002": 433.21}, or a list of values'
    if isinstance(value, list):
        value = {str(index): amount for index, amount in enumerate(value)}
    if not isinstance(value, dict) or not value:
        raise AirflowFailException(f"The input is {value!r}; {allowed}.")
    for order, amount in value.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise AirflowFailException(f"The input has {amount!r} as the value of order {order!r}; {allowed}.")
    return value


@dag(
    dag_id="etl",
    schedule=None,
    catchup=False,
    tags=["example"],
    params={"data": Param({"1001": 301.27, "1002": 433.21, "1003": 502.22}, description="Order id -> value")},
)
def etl() -> Any:
    """Add up the orders at `params["data"]`: how many, and what they are worth together."""

    @task(multiple_outputs=False)
    def extract(params: dict[str, Any]) -> dict[str, float]:
        return checked_orders(params["data"])

    @task(multiple_outputs=True)
    def transform(orders: dict[str, float]) -> dict[str, Any]:
        return {"count": len(orders), "value": round(sum(orders.values()), 2)}

    @task(multiple_outputs=False)
    def load(count: int, value: float) -> dict[str, Any]:
        return {"orders": count, "total_order_value": value}

    summary = transform(extract())
    return load(summary["count"], summary["value"])


etl()
