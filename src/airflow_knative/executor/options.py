"""What a task's `executor_config["knative"]` says to the dispatcher, read and checked.

Most of its keys shape the task's Knative Service and are `airflow-knative services render`'s to check. But a DAG gets
to the scheduler without that check, and with any Python value in it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from airflow_knative.errors import AirflowKnativeError

__all__ = ["OptionError", "read_options"]

_SHOWN: Final = 200  # characters of a wrong value
_SECONDS: Final = "a number of seconds above 0, such as 600"
_NAMES: Final = "a list of names, such as ['first', 'second']"


class OptionError(AirflowKnativeError):
    """A task's `executor_config["knative"]` holds a value that means nothing."""


def read_options(executor_config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the dispatcher goes by, as JSON has it: `timeout`, `variables` and `connections`, where given.

    Raises:
        OptionError: one of them is something else than it may be.
    """
    given = (executor_config or {}).get("knative")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _wrong("", given, "a mapping, such as {'timeout': 600}")
    options: dict[str, Any] = {}
    if "timeout" in given:
        options["timeout"] = _seconds("timeout", given["timeout"])
    for key in ("variables", "connections"):
        if key in given:
            options[key] = _names(key, given[key])
    return options


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return value
    raise _wrong(key, value, _SECONDS)


def _names(key: str, value: Any) -> list[str]:
    if isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(name, str) for name in value):
        return sorted(value)
    raise _wrong(key, value, _NAMES)


def _wrong(key: str, value: Any, allowed: str) -> OptionError:
    shown = repr(value)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    option = f"['{key}']" if key else ""
    return OptionError(
        f"executor_config['knative']{option} of the task is {shown}; allowed is {allowed}. Correct it in the DAG; "
        "`airflow-knative services render` names such values before a DAG is deployed."
    )
