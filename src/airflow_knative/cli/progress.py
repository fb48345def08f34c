"""What the tasks of a run are doing, live in a terminal or as lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console, RenderableType

    from airflow_knative.cli.airflow import AirflowApi

__all__ = ["Progress", "TaskRow", "rows"]

_DONE: Final = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})
_SIGNS: Final = {
    "success": ("✔", "green"),
    "failed": ("✘", "red"),
    "upstream_failed": ("✘", "yellow"),
    "skipped": ("↷", "magenta"),
    "removed": ("↷", "dim"),
    "up_for_retry": ("↻", "yellow"),
    "up_for_reschedule": ("↻", "cyan"),
    "deferred": ("⏸", "cyan"),
}
_WAITING: Final = "waiting"
_FAILURES: Final = 3


@dataclass(frozen=True)
class TaskRow:
    """A task and its instances.

    Attributes:
        task_id: The task.
        states: How many instances are in which state.
        begin: When the first one started, in Unix seconds.
        end: When the last one ended, None while one goes on.
        tries: The highest try number.
    """

    task_id: str
    states: Counter[str]
    begin: float | None
    end: float | None
    tries: int

    @property
    def state(self) -> str:
        """The state that says most about the whole: what failed, else what goes on, else success."""
        for state in ("failed", "upstream_failed", "up_for_retry", "running", "deferred", "queued", "scheduled"):
            if self.states[state]:
                return state
        return next(iter(self.states - Counter({"success": self.states["success"]})), "success")

    @property
    def done(self) -> bool:
        """Whether every instance has ended."""
        return all(state in _DONE for state in self.states.elements())

    def describe(self, now: float) -> str:
        """State, counts of a mapped task, tries and duration."""
        total = self.states.total()
        counts = ", ".join(f"{number} {state}" for state, number in self.states.most_common())
        text = self.state if total == 1 else counts
        if self.tries > 1:
            text += f", try {self.tries}"
        if self.begin is not None:
            text += f", {max((self.end or now) - self.begin, 0):.2f} s"
        return text


def rows(instances: Iterable[dict[str, Any]], order: list[str]) -> list[TaskRow]:
    """Group task instances by task, in the given order; tasks that are not in it come last."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for instance in instances:
        grouped.setdefault(instance["task_id"], []).append(instance)
    rank = {task_id: number for number, task_id in enumerate(order)}
    return [_row(task_id, grouped[task_id]) for task_id in sorted(grouped, key=lambda t: (rank.get(t, len(rank)), t))]


def _row(task_id: str, instances: list[dict[str, Any]]) -> TaskRow:
    begins = [_seconds(instance["start_date"]) for instance in instances if instance["start_date"]]
    ends = [_seconds(instance["end_date"]) for instance in instances if instance["end_date"]]
    return TaskRow(
        task_id=task_id,
        states=Counter(instance["state"] or _WAITING for instance in instances),
        begin=min(begins, default=None),
        end=max(ends) if len(ends) == len(instances) else None,
        tries=max(instance["try_number"] for instance in instances),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Progress:
    """Shows a run until it ends: a table that changes in a terminal, a line for each task that ends elsewhere.

    Args:
        console: Where to show it.
        dag_id: The workflow.
        api: Airflow's API; None shows the run's state only.
        fallback: Asks for the run's state, when Airflow cannot be asked for tasks.
        quiet: Show nothing where there is no terminal.
    """

    def __init__(
        self,
        console: Console,
        dag_id: str,
        api: AirflowApi | None,
        fallback: Callable[[], str | None],
        *,
        quiet: bool,
    ) -> None:
        self._console, self._dag_id, self._api, self._fallback = console, dag_id, api, fallback
        self.shown = console.is_terminal or not quiet
        self._order: list[str] | None = None
        self._told: set[str] = set()
        self._live: Live | None = None
        self._last: list[TaskRow] = []
        self._state: str | None = None
        self._failures = 0

    def look(self, run_id: str) -> None:
        """Ask how far the run is, and show it."""
        if not self.shown:
            return
        try:
            self._last = self._ask(run_id)
        except AirflowKnativeError:
            # Showing less is better than ending a command whose run goes on.
            self._failures += 1
            if self._failures == _FAILURES:
                self._api = None
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=10)
                self._live.start()
        else:
            self._tell()

    def close(self) -> None:
        """Leave what was shown last on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _ask(self, run_id: str) -> list[TaskRow]:
        if self._api is None:
            self._state = self._fallback()
            return []
        if self._order is None:
            self._order = _topological(self._api.tasks(self._dag_id))
        return rows(self._api.task_instances(self._dag_id, run_id), self._order)

    def _tell(self) -> None:
        for row in self._last:
            if row.done and row.task_id not in self._told:
                self._told.add(row.task_id)
                self._console.print(f"{row.task_id}: {row.describe(time.time())}", highlight=False, markup=False)

    def _table(self) -> RenderableType:
        if not self._last:
            return Spinner("dots", Text(f"{self._dag_id}: {self._state or 'started'}"))
        now = datetime.now(UTC).timestamp()
        table = Table.grid(padding=(0, 1))
        for row in self._last:
            sign, style = _SIGNS.get(row.state, ("·", "dim"))
            mark: RenderableType = Text(sign, style=style)
            if row.state in {"running", "queued", "scheduled", "restarting"}:
                mark = Spinner("dots", style="cyan")
            table.add_row(mark, Text(row.task_id), Text(row.describe(now), style=style))
        return table


def _topological(tasks: list[dict[str, Any]]) -> list[str]:
    graph: dict[str, set[str]] = {task["task_id"]: set() for task in tasks}
    for task in tasks:
        for downstream in task["downstream_task_ids"] or []:
            graph.setdefault(downstream, set()).add(task["task_id"])
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError:
        return list(graph)
