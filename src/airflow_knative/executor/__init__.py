"""The scheduler's side: an executor in its process, and a dispatcher process that does the work.

scheduler -- KnativeExecutor -- (socket) -- dispatcher -- workers
                                                |
                                          Execution API, in-process
"""

from __future__ import annotations

from airflow_knative.executor.executor import KnativeExecutor

__all__ = ["KnativeExecutor"]
