"""Pre-warming: the services of tasks that come next are nudged while the tasks before them run.

A nudge is `GET /readyz`: what holds requests for a service at zero (Knative's activator, or the local one) starts a pod
for it, and a pod that is there answers at once. Nobody's code runs, no signature is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import aiohttp

from airflow_knative.executor.outcome import Outcome
from airflow_knative.executor.prewarm_plan import downstream, plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_knative.executor.endpoints import Endpoint, Endpoints
    from airflow_knative.executor.prewarm_plan import Coming, Node, Progress

__all__ = ["Prewarmer"]

log = logging.getLogger(__name__)

_PATH: Final = "/readyz"
_DELAY: Final = 0.05  # seconds from a task's dispatch to the plan, which is not to be in its way
_LEAD: Final = 10.0  # seconds before a task's turn in which its pod is to start
_LONGEST: Final = 60.0  # seconds of one nudge
_REMEMBERED: Final = 10_000

RunKey = tuple[str, str]
Read: TypeAlias = "Callable[[str, str], Awaitable[tuple[dict[str, Node], dict[str, Progress]] | None]]"


@dataclass(frozen=True)
class _Call:
    """A task instance that the dispatcher is at."""

    run: RunKey
    task_id: str
    service: str | None
    began: float


@dataclass
class _Run:
    """A run with calls or nudges under way."""

    calls: int = 0
    dispatched: set[str] = field(default_factory=set)
    """Tasks since the last plan."""
    timer: asyncio.TimerHandle | None = None
    planning: asyncio.Task[None] | None = None
    nudges: dict[asyncio.Task[None], str] = field(default_factory=dict)
    """By service."""


class Prewarmer:
    """Nudges ahead of the calls that it is told of; use as an asynchronous context manager.

    Args:
        endpoints: Where services are.
        read: Reads a run by DAG and run id: its tasks and how far each has got; None if it is over.
        depth: Steps ahead of the tasks that run.
        limit: Nudges at once.
    """

    def __init__(self, endpoints: Endpoints, read: Read, *, depth: int, limit: int) -> None:
        self._endpoints = endpoints
        self._read = read
        self._depth = depth
        self._room = asyncio.Semaphore(limit)
        self._session: aiohttp.ClientSession
        self._calls: dict[int, _Call] = {}
        self._runs: dict[RunKey, _Run] = {}
        self._nodes: OrderedDict[str, dict[str, Node]] = OrderedDict()
        self._heard: OrderedDict[str, float] = OrderedDict()
        """When a service was last known to have a pod."""
        self._took: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._nudged: OrderedDict[tuple[RunKey, str], dict[str, float | None]] = OrderedDict()

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=_LONGEST),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Break off what is under way."""
        for run in self._runs.values():
            self._cancel(run)
        await self._session.close()

    def began(self, call: int, ti: dict[str, Any]) -> None:
        """A task instance is being dispatched: what comes after it may be nudged, it itself no more."""
        key = str(ti["dag_id"]), str(ti["run_id"])
        task_id = str(ti["task_id"])
        endpoint = self._endpoints.known(key[0], task_id)
        self._calls[call] = _Call(key, task_id, endpoint.name if endpoint else None, time.monotonic())
        run = self._runs.setdefault(key, _Run())
        run.calls += 1
        if endpoint is not None:
            self._withdraw_one(run, endpoint.name)
        if self._may_gain(key[0], task_id):
            run.dispatched.add(task_id)
            self._plan_in(_DELAY, key, run)

    def ended(self, call: int, outcome: Outcome) -> None:
        """The dispatcher is done with a call."""
        if (done := self._calls.pop(call, None)) is None:
            return
        now = time.monotonic()
        if outcome is Outcome.SETTLED:
            _remember(self._took, (done.run[0], done.task_id), now - done.began)
            if done.service is not None:
                _remember(self._heard, done.service, now)
        run = self._runs[done.run]
        run.calls -= 1
        if run.nudges:
            self._plan_in(0.0, done.run, run)  # the run may be over, and with it the reason for them
        else:
            self._forget_idle(done.run, run)

    def told(self, dag_id: str, run_id: str, service: str | None) -> dict[str, float | None] | None:
        """Return when a service was nudged for a run, and when it had a pod, in Unix seconds; None if it was not."""
        return None if service is None else self._nudged.get(((dag_id, run_id), service))

    def _may_gain(self, dag_id: str, task_id: str) -> bool:
        """Whether a task below may have its service at zero: as long as all are warm, the database is left alone."""
        nodes = self._nodes.get(dag_id)
        if nodes is None or task_id not in nodes:
            return True
        below = [each for each in downstream(nodes, task_id, self._depth) if nodes[each].runs]
        endpoints = (self._endpoints.known(dag_id, each) for each in below)
        return any(endpoint is not None and not self._is_warm(endpoint) for endpoint in endpoints)

    def _is_warm(self, endpoint: Endpoint) -> bool:
        heard = self._heard.get(endpoint.name)
        return heard is not None and time.monotonic() - heard < endpoint.window / 2

    def _plan_in(self, delay: float, key: RunKey, run: _Run) -> None:
        if run.timer is None:
            run.timer = asyncio.get_running_loop().call_later(delay, self._begin_plan, key, run)

    def _begin_plan(self, key: RunKey, run: _Run) -> None:
        run.timer = None
        if run.planning is None or run.planning.done():
            run.planning = asyncio.create_task(self._plan(key, run))
        else:
            self._plan_in(_DELAY, key, run)

    async def _plan(self, key: RunKey, run: _Run) -> None:
        dispatched, run.dispatched = run.dispatched, set()
        try:
            found = await self._read(*key)
        except Exception:  # tasks start without it
            log.exception("Reading a run for pre-warming failed")
            return
        if found is None:
            self._cancel(run)
        else:
            nodes, progress = found
            _remember(self._nodes, key[0], nodes)
            candidates = [below for task_id in sorted(dispatched) for below in downstream(nodes, task_id, self._depth)]
            took = {task_id: self._took[key[0], task_id] for task_id in nodes if (key[0], task_id) in self._took}
            coming = plan(nodes, progress, candidates, depth=self._depth, took=took, now=time.time())
            self._act(key, run, dispatched, coming)
        self._forget_idle(key, run)

    def _act(self, key: RunKey, run: _Run, dispatched: set[str], coming: list[Coming]) -> None:
        """Nudge for what comes soon; look again later for what does not."""
        wanted: dict[str, Counter[int]] = {}
        endpoints: dict[str, Endpoint] = {}
        later = []
        for task in coming:
            endpoint = self._endpoints.known(key[0], task.task_id)
            if endpoint is None or self._is_warm(endpoint):
                continue
            if task.eta > max(endpoint.window / 2, _LEAD):
                later.append(task.eta - _LEAD)  # its pod would be gone again by then
                continue
            endpoints[endpoint.name] = endpoint
            wanted.setdefault(endpoint.name, Counter())[task.level] += task.instances
        for name, by_level in wanted.items():
            endpoint = endpoints[name]
            most = endpoint.max_scale * endpoint.slots or sum(by_level.values())
            busy = sum(call.service == name for call in self._calls.values())
            under_way = sum(name in other.nudges.values() for other in self._runs.values())
            for _ in range(min(max(by_level.values()), most) - busy - under_way):
                self._nudge(key, run, endpoint)
        if later:
            run.dispatched |= dispatched
            self._plan_in(min(later), key, run)

    def _nudge(self, key: RunKey, run: _Run, endpoint: Endpoint) -> None:
        task = asyncio.create_task(self._send(key, endpoint))
        run.nudges[task] = endpoint.name

        def done(ended: asyncio.Task[None]) -> None:
            run.nudges.pop(ended, None)
            self._forget_idle(key, run)

        task.add_done_callback(done)

    async def _send(self, key: RunKey, endpoint: Endpoint) -> None:
        headers = {"host": endpoint.host} if endpoint.host else {}
        async with self._room:
            told = self._nudged.setdefault((key, endpoint.name), {"nudged": time.time(), "ready": None})
            _remember(self._nudged, (key, endpoint.name), told)
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):  # its task will say what is wrong
                async with self._session.get(
                    f"{endpoint.url.rstrip('/')}{_PATH}", headers=headers, allow_redirects=False
                ) as response:
                    if response.status == 200:  # noqa: PLR2004
                        _remember(self._heard, endpoint.name, time.monotonic())
                        told["ready"] = told["ready"] or time.time()

    def _withdraw_one(self, run: _Run, service: str) -> None:
        """Let a request for the service take the place of a nudge, so that nobody counts both."""
        for task, name in run.nudges.items():
            if name == service:
                task.cancel()
                return

    def _cancel(self, run: _Run) -> None:
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        for task in run.nudges:
            task.cancel()

    def _forget_idle(self, key: RunKey, run: _Run) -> None:
        idle = not run.calls and not run.nudges and run.timer is None
        if idle and (run.planning is None or run.planning.done() or run.planning is asyncio.current_task()):
            self._runs.pop(key, None)


def _remember(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _REMEMBERED:
        kept.popitem(last=False)
