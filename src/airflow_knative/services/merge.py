"""One set of options for a service that runs all tasks of a DAG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_knative.services.model import KnativeOptions, ServicesError, parse_options, quantity

__all__ = ["merge_options"]

_LARGEST = ("slots", "min_scale", "max_scale", "window", "timeout")


def merge_options(dag_id: str, tasks: Mapping[str, KnativeOptions]) -> KnativeOptions:
    """Merge what a DAG's tasks ask for, so that each of them fits.

    Numbers and resource quantities: the largest that any task sets. Secrets: all. Image, variables and node labels:
    whatever is set, as long as no two tasks contradict each other.

    Args:
        dag_id: For messages.
        tasks: Each task's options by task id.

    Raises:
        ServicesError: Two tasks want different things of one worker.
    """
    merged: dict[str, Any] = {}
    problems: list[str] = []
    owner: dict[tuple[str, ...], str] = {}

    def agree(task_id: str, path: tuple[str, ...], old: object, new: object) -> None:
        if old is not None and old != new:
            key = "".join(f"[{part!r}]" for part in path)
            problems.append(
                f"dag {dag_id!r}: tasks {owner[path]!r} and {task_id!r} share one service with --granularity dag but "
                f"set executor_config['knative']{key} to {old!r} and {new!r}; set the same value, or use "
                "--granularity task"
            )
        owner.setdefault(path, task_id)

    for task_id, options in sorted(tasks.items()):
        for key in sorted(options.model_fields_set):
            value = getattr(options, key)
            if key in _LARGEST:
                merged[key] = max(value, merged.get(key, value))
            elif key == "image":
                agree(task_id, (key,), merged.get(key), value)
                merged.setdefault(key, value)
            elif key in {"env", "node_selector"}:
                for name, text in value.items():
                    agree(task_id, (key, name), merged.get(key, {}).get(name), text)
                merged[key] = value | merged.get(key, {})
            elif key == "secrets":
                merged[key] = sorted({*value, *merged.get(key, [])})
            elif key == "resources":
                merged[key] = _largest_resources([merged.get(key, {}), value])
    if problems:
        raise ServicesError(problems)
    return parse_options(merged, where=f"dag {dag_id!r}")


def _largest_resources(several: Iterable[dict[str, dict[str, str]]]) -> dict[str, dict[str, str]]:
    largest: dict[str, dict[str, str]] = {}
    for resources in several:
        for kind, amounts in resources.items():
            entries = largest.setdefault(kind, {})
            for name, text in amounts.items():
                if name not in entries or quantity(text) > quantity(entries[name]):
                    entries[name] = text
    return largest
