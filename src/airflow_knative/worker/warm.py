"""Work that every task process would do again, done once before they are forked."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.execution_time import comms, task_runner
from pydantic import JsonValue, TypeAdapter

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["warm_up"]

# What supervisor and task runner import while a task runs.
_IMPORTS: Final = (
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.execution_time.callback_runner",
    "airflow.sdk.execution_time.context",
    "airflow.sdk.execution_time.xcom",
    "airflow.utils.net",
    "encodings.idna",
    "jinja2.ext",
    "setproctitle",
)


def warm_up(dag: DAG) -> None:
    """Import what `dag`'s tasks will import, and build what they would build."""
    for name in _IMPORTS:
        importlib.import_module(name)
    dag.get_template_env()
    # Building a schema takes milliseconds, and every task process would build the same ones again.
    adapter: Any = functools.cache(TypeAdapter)
    for kind in (JsonValue, comms.ToTask):
        adapter(kind)
    for module in (task_runner, comms):
        module.TypeAdapter = adapter  # type: ignore[attr-defined]
