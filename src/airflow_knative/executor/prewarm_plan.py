"""Which tasks of a run come next for sure: worked out from the DAG's structure and how far the run has got."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Coming", "Node", "Progress", "downstream", "plan"]


@dataclass(frozen=True)
class Node:
    """A task in its DAG."""

    task_id: str
    upstream: frozenset[str] = frozenset()
    downstream: frozenset[str] = frozenset()
    trigger_rule: str = "all_success"
    decides: bool = False
    """Whether it may have tasks below it skipped: a branch, a short circuit."""
    waits: bool = False
    """Whether it ends when something outside of the run happens: a sensor, or a task that starts in the triggerer."""
    runs: bool = True
    """Whether it needs a worker; the scheduler ends an empty operator itself."""


@dataclass(frozen=True)
class Progress:
    """How far the instances of one task have got in a run."""

    unfinished: int = 0
    """Instances without an end; there are more than one where the task is mapped."""
    started: float | None = None
    """When the first of those that run began, Unix seconds."""
    is_active: bool = False
    """Whether one of them is with the executor, or about to be."""
    is_waiting: bool = False
    """Whether one of them waits for something that takes its time: a trigger, another try."""
    succeeded: bool = False
    failed: bool = False
    skipped: bool = False


@dataclass(frozen=True)
class Coming:
    """A task that will run for sure, unless something fails."""

    task_id: str
    level: int
    """1 for what comes right after the tasks that are active."""
    eta: float
    """In how many seconds, as far as is known."""
    instances: int
    """How many at once."""


class _Fate(Enum):
    RUNS = 1
    SUCCEEDED = 2
    SKIPPED = 3
    FAILED = 4
    OPEN = 5  # undecided, or nothing to count on


@dataclass(frozen=True)
class _Outlook:
    fate: _Fate
    level: int = 0
    begins: float = 0.0
    ends: float = 0.0


# Rules of which the upstream tasks' success is the ordinary case; those for failures are not among them.
_ALL: Final = frozenset({"all_success", "none_skipped", "all_done_setup_success"})
_SOME: Final = frozenset({"one_success", "none_failed_min_one_success", "all_done_min_one_success", "one_done"})
_ANY: Final = frozenset({"all_done", "none_failed", "always"})
_FORGIVE_FAILURE: Final = frozenset({"all_done", "all_done_min_one_success", "one_success", "one_done", "always"})


def downstream(nodes: Mapping[str, Node], task_id: str, depth: int) -> list[str]:
    """Return the tasks within `depth` steps below a task, the nearest first."""
    found: dict[str, None] = {}
    queue = deque([(task_id, 0)])
    while queue:
        at, level = queue.popleft()
        if level < depth and at in nodes:
            for below in sorted(nodes[at].downstream - found.keys()):
                found[below] = None
                queue.append((below, level + 1))
    return list(found)


def plan(
    nodes: Mapping[str, Node],
    progress: Mapping[str, Progress],
    candidates: Sequence[str],
    *,
    depth: int,
    took: Mapping[str, float],
    now: float,
) -> list[Coming]:
    """Return which of `candidates` will run for sure within `depth` steps of the active tasks, the nearest first.

    Args:
        nodes: The DAG's tasks.
        progress: The run's; a task that is missing has not begun.
        candidates: Tasks to look at.
        depth: Steps at most.
        took: Seconds that tasks took before, where it is known.
        now: Unix seconds.
    """
    outlook = _Outlooks(nodes, progress, took, now)
    found = []
    for task_id in dict.fromkeys(candidates):
        seen, has = outlook.of(task_id), progress.get(task_id, Progress())
        if seen.fate is _Fate.RUNS and 1 <= seen.level <= depth and nodes[task_id].runs and not has.is_active:
            found.append(Coming(task_id, seen.level, seen.begins, max(1, has.unfinished)))
    return sorted(found, key=lambda coming: (coming.level, coming.task_id))


class _Outlooks:
    """What becomes of each task."""

    def __init__(
        self, nodes: Mapping[str, Node], progress: Mapping[str, Progress], took: Mapping[str, float], now: float
    ) -> None:
        self._nodes = nodes
        self._progress = progress
        self._took = took
        self._now = now
        self._known: dict[str, _Outlook] = {}

    def of(self, wanted: str) -> _Outlook:
        """Find out about a task, after all that are above it; a DAG may be deeper than Python's stack."""
        stack = [wanted]
        while stack:
            task_id = stack[-1]
            node = self._nodes.get(task_id)
            if task_id in self._known:
                stack.pop()
            elif node is None:
                self._known[task_id] = _Outlook(_Fate.OPEN)
            elif (begun := self._begun(node)) is not None:
                self._known[task_id] = begun
            elif missing := node.upstream - self._known.keys():
                stack += missing
            else:
                self._known[task_id] = self._not_begun(node)
        return self._known[wanted]

    def _begun(self, node: Node) -> _Outlook | None:
        has = self._progress.get(node.task_id, Progress())
        if has.is_waiting:
            return _Outlook(_Fate.OPEN)
        if has.is_active:
            elapsed = 0.0 if has.started is None else self._now - has.started
            return _Outlook(_Fate.RUNS, ends=max(0.0, self._took.get(node.task_id, 0.0) - elapsed))
        if has.unfinished:
            return None
        if has.failed:
            return _Outlook(_Fate.FAILED)
        if has.succeeded:
            return _Outlook(_Fate.SUCCEEDED)
        return _Outlook(_Fate.SKIPPED) if has.skipped else None

    def _not_begun(self, node: Node) -> _Outlook:
        """Tell whether a task will run from what becomes of the tasks right above it."""
        above = [(self._nodes.get(task_id), self._known[task_id]) for task_id in node.upstream]
        fates = {outlook.fate for _, outlook in above}
        if _Fate.OPEN in fates or any(
            task is not None and (task.decides or task.waits) and outlook.fate is _Fate.RUNS for task, outlook in above
        ):
            return _Outlook(_Fate.OPEN)
        rule = node.trigger_rule
        if rule not in _ALL | _SOME | _ANY or (_Fate.FAILED in fates and rule not in _FORGIVE_FAILURE):
            return _Outlook(_Fate.OPEN)
        if rule in _ALL and _Fate.SKIPPED in fates:
            return _Outlook(_Fate.SKIPPED)
        if rule in _SOME and fates and not {_Fate.RUNS, _Fate.SUCCEEDED} & fates:
            return _Outlook(_Fate.SKIPPED)
        unfinished = [outlook for _, outlook in above if outlook.fate is _Fate.RUNS]
        level = max((outlook.level for outlook in unfinished), default=-1) + node.runs
        begins = max((outlook.ends for outlook in unfinished), default=0.0)
        return _Outlook(_Fate.RUNS, max(level, 0), begins, begins + self._took.get(node.task_id, 0.0))
