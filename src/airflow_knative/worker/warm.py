"""Work that every task process would do again, done once before they are forked."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Final

from airflow.sdk.execution_time import task_runner
from pydantic import JsonValue, TypeAdapter

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["warm_up"]

# What the task runner imports while a task runs.
_IMPORTS: Final = (
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.execution_time.callback_runner",
    "airflow.sdk.execution_time.context",
    "airflow.sdk.execution_time.xcom",
    "jinja2.ext",
)


def warm_up(dag: DAG) -> None:
    """Import what `dag`'s tasks will import, and build what they would build."""
    for name in _IMPORTS:
        importlib.import_module(name)
    dag.get_template_env()
    # Building a schema takes milliseconds, and the runner builds the same one for each rendered field.
    adapter = functools.cache(TypeAdapter)
    adapter(JsonValue)
    task_runner.TypeAdapter = adapter  # type: ignore[attr-defined,assignment]
