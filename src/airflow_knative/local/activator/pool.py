"""All workers of one service: which takes a request, when another starts, when one stops."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.local.activator.errors import QueueFullError, RetiredError, StartError
from airflow_knative.local.activator.worker import Launch, Worker
from airflow_knative.local.child import say

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from airflow_knative.local.activator.gate import StartGate
    from airflow_knative.local.catalog import Service

__all__ = ["Pool"]

_RESTART_FIRST: Final = 1.0
_RESTART_LAST: Final = 60.0
_LAST_TASKS: Final = 0.5
"""Seconds after which a worker is asked again whether it has come to the end of tasks without a caller."""
_PATIENCE: Final = 0.25
"""Seconds that a request waits for a slot of a worker that is up, until another one starts for it.

A start costs a second of processor time, which those that are up need to come to the end of what they have.
"""


class _Waiter:
    def __init__(self, *, urgent: bool) -> None:
        self.future: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self.urgent = urgent
        self.since = time.monotonic()


class Pool:
    """The workers of one service, at its newest revision and, while they still have work, at older ones."""

    def __init__(self, service: Service, launch: Launch, gate: StartGate, *, queue_limit: int) -> None:
        self.service = service
        self.failure: str | None = None
        self._launch = launch
        self._gate = gate
        self._queue_limit = queue_limit
        self._waiting: deque[_Waiter] = deque()
        self._workers: list[Worker] = []
        self._retired = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = _RESTART_FIRST
        self._look_again: asyncio.TimerHandle | None = None
        self._keep_minimum()

    async def acquire(self, *, urgent: bool = True) -> Worker:
        """Take a slot of a worker, waiting for one as long as it takes.

        Args:
            urgent: Whether work waits for it; a start for the sake of being warm is not.

        Raises:
            QueueFullError: Too many wait already.
            StartError: The worker that this request was waiting for did not start, and there is no other.
            RetiredError: The service has gone.
        """
        if self._retired:
            raise RetiredError(f"{self.service.name} is being stopped")
        if not self._waiting and (worker := self._pick()) is not None:
            return self._take(worker)
        if len(self._waiting) >= self._queue_limit:
            raise QueueFullError(f"{self._queue_limit} requests wait for a worker of {self.service.name} already")
        waiter = _Waiter(urgent=urgent)
        self._waiting.append(waiter)
        self._scale_up()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.future.cancelled() and waiter.future.exception() is None:
                self.release(waiter.future.result())
            raise

    def release(self, worker: Worker) -> None:
        """Give a slot back."""
        worker.in_use -= 1
        worker.last_used = time.monotonic()
        if worker.state == "draining":
            if worker.in_use == 0:
                self._stop(worker)
            return
        self._hand_out()
        if worker.in_use == 0:
            self._watch_idle(worker)

    def update(self, service: Service) -> None:
        """Go over to another revision: new requests go to new workers, old workers finish what they have."""
        old, self.service = self.service, service
        if service.revision == old.revision:
            return
        self.failure = None
        self._delay = _RESTART_FIRST
        for worker in self._workers:
            if worker.is_live:
                self._drain(worker)
        self._scale_up()
        self._keep_minimum()

    def retire(self) -> None:
        """Take no more requests, refuse those that wait, and stop each worker when its work is done."""
        self._retired = True
        self._refuse_waiting(RetiredError(f"{self.service.name} is no longer there"))
        for worker in self._workers:
            if worker.is_live:
                self._drain(worker)

    async def close(self) -> None:
        """Retire, and stop even the workers that have work, within their grace period."""
        self.retire()
        await asyncio.gather(*(worker.stop() for worker in list(self._workers)))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_empty(self) -> bool:
        """Whether no worker is left."""
        return not self._workers

    def status(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "service": self.service.name,
            "host": self.service.host,
            "dag_id": self.service.dag_id,
            "task_id": self.service.task_id,
            "revision": self.service.revision,
            "slots": self.service.slots,
            "min_scale": self.service.min_scale,
            "max_scale": self.service.max_scale,
            "waiting": len(self._waiting),
            "failure": self.failure,
            "workers": [worker.status() for worker in self._workers],
        }

    def _pick(self) -> Worker | None:
        """The fullest worker with room, then the latest used: the others can become idle and stop."""
        free = [worker for worker in self._workers if worker.has_room]
        return max(free, key=lambda worker: (worker.in_use, worker.last_used), default=None)

    def _take(self, worker: Worker) -> Worker:
        worker.in_use += 1
        worker.served += 1
        if worker.idle_timer is not None:
            worker.idle_timer.cancel()
            worker.idle_timer = None
        return worker

    def _hand_out(self) -> None:
        while self._waiting and (worker := self._pick()) is not None:
            waiter = self._waiting.popleft()
            # A request that has just been given up may still stand here.
            if not waiter.future.done():
                waiter.future.set_result(self._take(worker))

    def _live(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.is_live]

    def _scale_up(self) -> None:
        if self._retired:
            return
        live = self._live()
        starting = sum(not worker.is_ready for worker in live)
        waiting = len(self._waiting)
        if starting < len(live):
            waiting = self._impatient()
        wanted = -(-waiting // self.service.slots) - starting
        for _ in range(min(wanted, self.service.max_scale - len(live))):
            self._start_one()

    def _impatient(self) -> int:
        """How many have waited long enough for a worker that is up; for the others, look again later."""
        now = time.monotonic()
        patient = [waiter.since + _PATIENCE - now for waiter in self._waiting if waiter.since + _PATIENCE > now]
        if patient and self._look_again is None:
            self._look_again = asyncio.get_running_loop().call_later(min(patient), self._on_look_again)
        return len(self._waiting) - len(patient)

    def _on_look_again(self) -> None:
        self._look_again = None
        self._scale_up()

    def _keep_minimum(self) -> None:
        if not self._retired:
            for _ in range(self.service.min_scale - len(self._live())):
                self._start_one()

    def _start_one(self) -> None:
        worker = Worker(self.service, self._launch)
        self._workers.append(worker)
        self._background(self._run(worker))

    async def _run(self, worker: Worker) -> None:
        try:
            async with self._gate.turn(self._is_urgent):
                if worker.state != "queued":
                    self._forget(worker)
                    return
                began = time.monotonic()
                await worker.start()
        except StartError as error:
            self._forget(worker)
            if worker.state not in {"draining", "stopped"}:
                self._on_start_failure(error)
            return
        say(f"{worker.service.name}: worker {worker.number} ready after {time.monotonic() - began:.2f} s")
        if worker.is_ready:
            self.failure = None
            self._delay = _RESTART_FIRST
            self._hand_out()
            if worker.in_use == 0:
                self._watch_idle(worker)
        if worker.process is not None:
            code = await worker.process.wait()
            if worker.is_ready:
                say(f"{worker.service.name}: worker {worker.number} ended with {code}")
        self._forget(worker)
        worker.state = "stopped"
        self._scale_up()
        self._keep_minimum()

    def _on_start_failure(self, error: StartError) -> None:
        say(f"{error}")
        self.failure = str(error)
        if not self._live():
            self._refuse_waiting(error)
        if len(self._live()) < self.service.min_scale and not self._retired:
            self._background(self._retry_minimum(self._delay))
            self._delay = min(self._delay * 2, _RESTART_LAST)

    async def _retry_minimum(self, delay: float) -> None:
        await asyncio.sleep(delay)
        self._keep_minimum()

    def _is_urgent(self) -> bool:
        return any(waiter.urgent for waiter in self._waiting)

    def _refuse_waiting(self, error: Exception) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _drain(self, worker: Worker) -> None:
        if worker.state == "queued":
            worker.state = "stopped"
        elif worker.in_use == 0:
            self._stop(worker)
        else:
            worker.state = "draining"

    def _watch_idle(self, worker: Worker) -> None:
        if not worker.is_ready or worker.idle_timer is not None:
            return
        loop = asyncio.get_running_loop()
        worker.idle_timer = loop.call_later(self.service.window, self._on_idle, worker)

    def _on_idle(self, worker: Worker) -> None:
        worker.idle_timer = None
        if not worker.is_ready or worker.in_use:
            return
        if len(self._live()) > self.service.min_scale:
            self._background(self._stop_if_idle(worker))
        else:
            self._watch_idle(worker)

    async def _stop_if_idle(self, worker: Worker) -> None:
        has_tasks = await worker.runs_tasks()
        if not worker.is_ready or worker.in_use or worker.idle_timer is not None:
            return
        if len(self._live()) > self.service.min_scale and not has_tasks:
            say(f"{worker.service.name}: worker {worker.number} idle for {self.service.window:g} s, stopping it")
            self._stop(worker)
        else:
            self._watch_idle(worker)

    def _stop(self, worker: Worker) -> None:
        if worker.idle_timer is not None:
            worker.idle_timer.cancel()
            worker.idle_timer = None
        worker.state = "draining"
        self._background(self._finish(worker))

    async def _finish(self, worker: Worker) -> None:
        """Stop a worker that has no requests once it has no tasks either."""
        while await worker.runs_tasks():  # noqa: ASYNC110 - another process tells by HTTP only
            await asyncio.sleep(_LAST_TASKS)
        await worker.stop()

    def _forget(self, worker: Worker) -> None:
        if worker.idle_timer is not None:
            worker.idle_timer.cancel()
            worker.idle_timer = None
        if worker in self._workers:
            self._workers.remove(worker)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
