"""The scheduler's side: an executor in its process, and a dispatcher process that does the work.

scheduler -- KnativeExecutor -- (socket) -- dispatcher -- workers
                                                |
                                          Execution API, in-process
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_knative.executor.executor import KnativeExecutor

__all__ = ["KnativeExecutor"]


def __getattr__(name: str) -> Any:
    # Not at import: all of Airflow hangs on it, and this package's other modules do not need it.
    if name == "KnativeExecutor":
        from airflow_knative.executor.executor import KnativeExecutor  # noqa: PLC0415

        return KnativeExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
