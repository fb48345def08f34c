"""Results that are kept until Airflow has them.

A worker that has sent the last byte of its answer knows nothing of its arrival: whoever stands between it and the
database may die with it. So the front asks the Execution API some seconds later whether the task instance still runs
behind the request's fence. Then nobody has brought its result there, and the front does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_knative.wire import is_state_line
from airflow_knative.worker.execution_api import ApiAwayError, Verdict, deliver, heartbeat, running

if TYPE_CHECKING:
    from airflow_knative.wire import TaskRequest

__all__ = ["Receipts"]

_WAIT: Final = 5.0  # seconds from the end of an answer to the first question
_LAST_WAIT: Final = 10.0
_PATIENCE: Final = 300.0  # seconds for which an Execution API that is away is asked
_MOST_BYTES: Final = 16 * 1024 * 1024  # of results; the newest is kept whatever its size


@dataclass
class _Result:
    request: TaskRequest
    writes: deque[bytes]
    due: float
    until: float
    delay: float = field(default=1.0)

    @property
    def size(self) -> int:
        return sum(map(len, self.writes))

    @property
    def name(self) -> tuple[str, str]:
        """As the Execution API names its state: (run id, name with map index)."""
        ti = self.request.ti
        index = -1 if ti.get("map_index") is None else int(ti["map_index"])
        return str(ti["run_id"]), str(ti["task_id"]) if index < 0 else f"{ti['task_id']}_{index}"


class Receipts:
    """Sees to it that results arrive."""

    def __init__(self, *, wait: float = _WAIT) -> None:
        """Ask for a result `wait` seconds after its answer ended."""
        self._wait = wait
        self._results: list[_Result] = []
        self._more = asyncio.Event()

    def keep(self, request: TaskRequest, writes: list[bytes], *, doubtful: bool) -> None:
        """Keep what a task instance wrote, as lines of the answer that has just ended.

        Args:
            request: the one that was answered.
            writes: `write` records.
            doubtful: whether the answer surely did not arrive.
        """
        if not any(map(is_state_line, writes)):
            return  # it has no result
        now = time.monotonic()
        due = now if doubtful else now + self._wait
        self._results.append(_Result(request, deque(writes), due, now + _PATIENCE))
        while len(self._results) > 1 and sum(result.size for result in self._results) > _MOST_BYTES:
            self._results.pop(0)
        self._more.set()

    async def run(self) -> None:
        """Ask and deliver, for ever."""
        while True:
            self._more.clear()
            due = min((result.due for result in self._results), default=None)
            timeout = None if due is None else max(0.0, due - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), timeout)
            now = time.monotonic()
            if any(result.due <= now for result in self._results):
                # One question for many: what is due soon goes with what is due.
                await self._round([result for result in self._results if result.due <= now + 0.8 * self._wait])

    async def drain(self) -> None:
        """Ask for everything now, until nothing is left."""
        while self._results:
            await self._round(list(self._results))
            if self._results:
                await asyncio.sleep(1.0)

    async def _round(self, results: list[_Result]) -> None:
        by_task: dict[str, list[_Result]] = {}
        for result in results:
            by_task.setdefault(str(result.request.ti["task_id"]), []).append(result)
        for of_task in by_task.values():
            try:
                missing = await asyncio.to_thread(
                    running, of_task[-1].request, {str(result.request.ti["run_id"]) for result in of_task}
                )
            except ApiAwayError:
                missing = None
            for result in of_task:
                if missing is None or (result.name in missing and not await asyncio.to_thread(_settle, result)):
                    self._put_off(result)
                else:
                    self._drop(result)

    def _put_off(self, result: _Result) -> None:
        now = time.monotonic()
        if now > result.until:
            self._drop(result)
        result.due = now + result.delay
        result.delay = min(result.delay * 2, _LAST_WAIT)

    def _drop(self, result: _Result) -> None:
        if result in self._results:
            self._results.remove(result)


def _settle(result: _Result) -> bool:
    """Bring a result to the Execution API if it has none yet; whether that is over."""
    verdict, _ = heartbeat(result.request)
    if verdict is Verdict.OURS:
        try:
            while result.writes:
                deliver(result.request, json.loads(result.writes[0]))
                result.writes.popleft()
        except ApiAwayError:
            return False
    return verdict is not Verdict.UNKNOWN
