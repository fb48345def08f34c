"""Whether a task instance that Airflow believes running has surely not been started yet.

A request may wait long before a worker takes it: for a cold start, for a free slot. If its dispatcher dies meanwhile,
its successor has to know that nothing of the task ran. So a request that may have to wait is *held*: the task
instance's `external_executor_id` names the dispatcher's last heartbeat, and the worker must claim the request, by a
heartbeat of its own at the Execution API, before anything runs. As long as the row still has the heartbeat that is
named, nobody has claimed it; and once another fence stands there, nobody can.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from datetime import UTC
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

__all__ = ["Promptness", "held_mark", "is_unclaimed"]

_PROMPT: Final = 0.5  # seconds from the request to the first record of its answer
_FRESH: Final = 20.0  # seconds that a prompt answer speaks for the next one
_REMEMBERED: Final = 10_000


def held_mark(heartbeat: datetime) -> str:
    """Return the `external_executor_id` of a held task instance, last heartbeated at `heartbeat`."""
    return f"held {heartbeat.astimezone(UTC).isoformat(timespec='microseconds')}"


def is_unclaimed(mark: str | None, heartbeat: datetime | None) -> bool:
    """Tell whether a row with this `external_executor_id` and heartbeat surely was not started."""
    return heartbeat is not None and mark == held_mark(heartbeat)


class Promptness:
    """Which tasks' services took their last request at once: these need not claim the next one.

    That is told of a revision: the next one may have no pod yet.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._waiting: dict[tuple[str, str], int] = {}
        self._prompt: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def expects(self, task: tuple[str, str], revision: str | None) -> bool:
        """Whether a request for a (dag id, task id) will be taken at once by a revision, as far as can be known."""
        if task in self._waiting or (last := self._prompt.get(task)) is None:
            return False
        prompt, at = last
        return prompt == revision and time.monotonic() - at < _FRESH

    @contextlib.contextmanager
    def waiting(self, task: tuple[str, str], revision: str | None) -> Iterator[Callable[[], None]]:
        """Take note of a request that waits for a revision from now on, until it is taken: call what this yields."""
        begun = time.monotonic()
        self._waiting[task] = self._waiting.get(task, 0) + 1
        is_open = True

        def end(waited: float | None) -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self._end(task, revision, waited)

        try:
            yield lambda: end(time.monotonic() - begun)
        finally:
            end(None)

    def _end(self, task: tuple[str, str], revision: str | None, waited: float | None) -> None:
        self._waiting[task] -= 1
        if not self._waiting[task]:
            del self._waiting[task]
        self._prompt.pop(task, None)
        if revision is not None and waited is not None and waited < _PROMPT:
            self._prompt[task] = revision, time.monotonic()
            if len(self._prompt) > _REMEMBERED:
                self._prompt.popitem(last=False)
