"""One set of options for a service that runs all tasks of a DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_knative.services.model import KnativeOptions, ServicesError, parse_options, quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    merged = _Merged(dag_id)
    for task_id, options in sorted(tasks.items()):
        for key in sorted(options.shaping):
            merged.add(task_id, key, getattr(options, key))
    if merged.problems:
        raise ServicesError(merged.problems)
    return parse_options(merged.values, where=f"dag {dag_id!r}")


class _Merged:
    def __init__(self, dag_id: str) -> None:
        self.dag_id = dag_id
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self._owners: dict[tuple[str, ...], str] = {}

    def add(self, task_id: str, key: str, value: Any) -> None:
        old = self.values.get(key)
        if old is None:
            self.values[key] = value
        elif key in _LARGEST:
            self.values[key] = max(value, old)
        elif key == "secrets":
            self.values[key] = sorted({*value, *old})
        elif key == "resources":
            self.values[key] = _largest_resources([old, value])
        elif key in {"env", "node_selector"}:
            self.values[key] = value | old
        self._agree(task_id, key, value)

    def _agree(self, task_id: str, key: str, value: Any) -> None:
        """Note two tasks that want different things of which there can be one only."""
        parts: dict[tuple[str, ...], Any]
        if key == "image":
            parts = {(key,): value}
        elif key in {"env", "node_selector"}:
            parts = {(key, name): text for name, text in value.items()}
        else:
            return
        for path, mine in parts.items():
            owner = self._owners.setdefault(path, task_id)
            kept = self.values[key] if len(path) == 1 else self.values[key][path[1]]
            if kept != mine:
                where = "".join(f"[{part!r}]" for part in path)
                self.problems.append(
                    f"dag {self.dag_id!r}: tasks {owner!r} and {task_id!r} share one service with --granularity dag "
                    f"but set executor_config['knative']{where} to {kept!r} and {mine!r}; set the same value, or use "
                    "--granularity task"
                )


def _largest_resources(several: Iterable[dict[str, dict[str, str]]]) -> dict[str, dict[str, str]]:
    largest: dict[str, dict[str, str]] = {}
    for resources in several:
        for kind, amounts in resources.items():
            entries = largest.setdefault(kind, {})
            for name, text in amounts.items():
                if name not in entries or quantity(text) > quantity(entries[name]):
                    entries[name] = text
    return largest
