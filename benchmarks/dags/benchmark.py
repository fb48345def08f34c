"""Workflows for measuring: `benchmark_w<width>_d<depth>`, of one chain and any depth, or of any width at depth 3.

`width` chains run side by side and `depth` tasks one after the other: a source, depth - 2 steps in each chain, and a
sum. At depth 2 there is no room for a common source, so each chain is one task that reads the input itself. The
chains of one workflow are mapped task instances, so that a step is one service however wide the workflow is.

The input is a whole number n, or {"value": n, "padding": bytes} to send that much along between any two tasks. Each
step adds 1, so the answer is width * (n + depth - 2).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, dag, get_parsing_context, task, task_group
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTHS = (1, 2, 4, 8, 16, 24, 48)
DEPTHS = (2, 3, 4, 8, 16)
SHAPES = (*((1, depth) for depth in DEPTHS), *((width, 3) for width in WIDTHS if width > 1))
SHALLOWEST = 2
SLOTS = 8
MAX_PADDING = 16 * 1024 * 1024


def checked_item(value: Any) -> dict[str, Any]:
    """Return what goes down a chain, and fail the task without retries if the input is something else."""
    item = value if isinstance(value, dict) else {"value": value}
    number, padding = item.get("value"), item.get("padding", 0)
    whole = all(isinstance(part, int) and not isinstance(part, bool) for part in (number, padding))
    if not whole or set(item) - {"value", "padding"} or not 0 <= padding <= MAX_PADDING:
        raise AirflowFailException(
            f"The input is {value!r}; allowed is a whole number n, or an object of value: n and padding: bytes from 0 "
            f"to {MAX_PADDING}."
        )
    return {"value": number, "padding": "x" * padding}


@task(multiple_outputs=False)
def source(params: dict[str, Any]) -> dict[str, Any]:
    """Read the input of the only chain."""
    return checked_item(params["data"])


@task
def fan_out(width: int, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the input of every chain."""
    return [checked_item(params["data"])] * width


@task(multiple_outputs=False)
def start(chain: int, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 -- one instance per chain
    """Be a chain of one task."""
    return checked_item(params["data"])


@task(multiple_outputs=False)
def step(item: dict[str, Any]) -> dict[str, Any]:
    """Take one step in a chain."""
    return {**item, "value": item["value"] + 1}


@task
def total(items: Iterable[dict[str, Any]]) -> int:
    """Add up what the chains brought."""
    return sum(item["value"] for item in items)


def build(width: int, depth: int) -> DAG:
    """Define the workflow of one width and depth."""
    side_by_side = {"knative": {"slots": SLOTS, "max_scale": ceil(width / SLOTS)}} if width > 1 else {}

    def steps(item: Any) -> Any:
        for number in range(1, depth - 1):
            item = step.override(task_id=f"step_{number}", executor_config=side_by_side)(item)
        return item

    @dag(
        dag_id=f"benchmark_w{width}_d{depth}",
        schedule=None,
        catchup=False,
        tags=["benchmark"],
        params={"data": Param(1, description="A whole number, or an object of value and padding")},
        doc_md=__doc__,
        max_active_tasks=max(16, width),
    )
    def benchmark() -> Any:
        if width == 1:
            return total([steps(source())])
        if depth == SHALLOWEST:
            return total(start.override(executor_config=side_by_side).expand(chain=list(range(width))))
        chain = task_group(group_id="chain", prefix_group_id=False)(steps)
        return total(chain.expand(item=fan_out(width)))

    return benchmark()


# Whoever runs one DAG only (a worker) is spared the other ones.
_wanted = get_parsing_context().dag_id
for _width, _depth in SHAPES:
    if _wanted in (None, f"benchmark_w{_width}_d{_depth}"):
        build(_width, _depth)
