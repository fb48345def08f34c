"""The executor inside the scheduler's process: workloads in, events out, and waking the loop.

It touches neither network nor database: the dispatcher does.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import airflow
from airflow.executors.base_executor import BaseExecutor
from airflow.executors.workloads import ExecuteTask
from airflow.models.connection_test import ConnectionTestKey
from airflow.utils.helpers import log_filename_template_renderer
from airflow.utils.state import TaskInstanceState

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.executor import channel
from airflow_knative.executor.channel import Channel, ChannelClosedError
from airflow_knative.executor.claims import is_unclaimed
from airflow_knative.executor.options import OptionError, read_options
from airflow_knative.executor.outcome import Outcome
from airflow_knative.executor.settings import ExecutorSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.executors.workloads import ExecutorWorkload
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancekey import TaskInstanceKey

__all__ = ["KnativeExecutor"]

_SUPPORTED: Final = ("3.3.",)
_START_TIMEOUT: Final = 600.0  # seconds that a dispatcher may take to import Airflow; one that ends is seen at once
_FIRST_WAIT: Final = 0.1  # seconds that the loop waits after there was something to do; doubles up to the longest
_STOP_TIMEOUT: Final = 40.0  # it may wait for workers to take what they were sent


class KnativeExecutor(BaseExecutor):
    """Runs each task instance in the Knative Service of its task."""

    is_local: bool = False
    is_production: bool = True
    serve_logs: bool = True  # the dispatcher writes the task logs on this host

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make an executor; `start` starts its dispatcher."""
        super().__init__(*args, **kwargs)
        self._settings: ExecutorSettings
        self._dispatcher: subprocess.Popen[bytes] | None = None
        self._channel: Channel
        self._calls = itertools.count(1)
        self._by_call: dict[int, tuple[TaskInstanceKey, dict[str, Any]]] = {}
        """What the dispatcher is at, and the message that said so."""
        self._latest: dict[TaskInstanceKey, int] = {}
        """A key's newest call: a deferred task instance comes back under the same key."""
        self._just_dispatched = False
        self._wait = _FIRST_WAIT

    def start(self) -> None:
        """Start the dispatcher and wait until it is ready.

        Raises:
            AirflowKnativeError: this Airflow is not supported, an option is wrong or the dispatcher does not come up.
        """
        if not airflow.__version__.startswith(_SUPPORTED):
            raise AirflowKnativeError(
                f"KnativeExecutor knows Airflow 3.3, this is {airflow.__version__}. Install a matching pair."
            )
        self._settings = ExecutorSettings.from_configuration()
        self._start_dispatcher()

    def _process_workloads(self, workload_items: Sequence[ExecutorWorkload]) -> None:
        for workload in workload_items:
            if not isinstance(workload, ExecuteTask):
                raise TypeError(f"KnativeExecutor runs task instances, not {type(workload).__name__}")
            key = workload.key
            del self.queued_tasks[key]
            self.running.add(key)
            self._just_dispatched = True
            try:
                self._hand_over(key, _run(workload))
            except Exception as error:
                # What one DAG brings along must not end the scheduler, which would find it again at its next start.
                self.log.exception("%s cannot be handed to the dispatcher", key)
                self.fail(key, f"The task instance cannot be handed to the dispatcher: {error!r}")

    def sync(self) -> None:
        """Take in the dispatcher's results; when there is nothing to do, wait for one.

        The wait takes the place of the scheduler's idle sleep, during which it would hear nothing. It begins short:
        where something has just happened, more may have that nothing wakes for, as with another executor in the loop.
        """
        waits = self._settings.wakeup and not self._just_dispatched and not self.event_buffer
        self._just_dispatched = False
        wait = min(self._wait, self._settings.wakeup_max_wait) if waits else 0.0
        deadline = time.monotonic() + wait
        while True:
            if (left := deadline - time.monotonic()) > 0:
                self._channel.wait(left)
            try:
                for message in self._channel.receive():
                    self._take(message)
            except ChannelClosedError:
                self._restart_dispatcher()
            if self.event_buffer or time.monotonic() >= deadline:
                break
        if waits and not self.event_buffer:
            self._wait = 2 * wait
            self._keep_awake()
        else:
            self._wait = _FIRST_WAIT

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Adopt what runs: its worker has lost its caller and reports by itself, which the dispatcher watches.

        What surely was not started is refused, and the scheduler queues it anew. It holds the rows' locks meanwhile, so
        that no worker can claim one.
        """
        refused = []
        for ti in tis:
            if ti.key in self.running or ti.key in self.queued_tasks:
                continue  # this scheduler's own, which has been so slow that it counted as dead
            if ti.state != TaskInstanceState.RUNNING or is_unclaimed(ti.external_executor_id, ti.last_heartbeat_at):
                refused.append(ti)
                continue
            self.running.add(ti.key)
            log_path = log_filename_template_renderer()(ti=ti)
            self._hand_over(ti.key, {"type": channel.ADOPT, "ti": _identity(ti), "log_path": log_path})
        return refused

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Forget a task instance; its try number is over, so its worker stops at the next heartbeat."""
        self.queued_tasks.pop(ti.key, None)
        self.running.discard(ti.key)
        self._latest.pop(ti.key, None)

    def end(self) -> None:
        """Stop the dispatcher; what runs goes on, reports by itself and is adopted by the next scheduler."""
        self._stop_dispatcher()

    def terminate(self) -> None:
        """Stop the dispatcher."""
        self._stop_dispatcher()

    def _hand_over(self, key: TaskInstanceKey, message: dict[str, Any]) -> None:
        call = next(self._calls)
        message["call"] = call
        self._channel.send(message)
        self._by_call[call] = key, message
        self._latest[key] = call

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == channel.WAKE:
            self._keep_awake()
        elif message["type"] == channel.DONE:
            self._finish(int(message["call"]), Outcome(message["outcome"]), message["info"])

    def _finish(self, call: int, outcome: Outcome, info: str | None) -> None:
        key, _ = self._by_call.pop(call)
        if self.slots_available <= 0:
            self._keep_awake()  # something may wait for the slot
        if self._latest.get(key) != call:  # a newer call has taken over
            return
        del self._latest[key]
        if outcome is Outcome.SETTLED:
            # The state is in the database already. An event would only have the scheduler compare it with a guess.
            self.running.discard(key)
        else:
            self.change_state(
                key, TaskInstanceState.FAILED if outcome is Outcome.FAILED else TaskInstanceState.SUCCESS, info
            )

    def _keep_awake(self) -> None:
        """Have the scheduler loop again without its idle sleep: an event that it counts and then ignores."""
        self.event_buffer[ConnectionTestKey(str(uuid4()))] = None, None

    def _start_dispatcher(self) -> None:
        ours, theirs = socket.socketpair()
        self._dispatcher = subprocess.Popen(
            [sys.executable, "-m", "airflow_knative.executor.dispatcher", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._channel = Channel(ours)
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            self._channel.wait(1.0)
            try:
                if any(message["type"] == channel.READY for message in self._channel.receive()):
                    return
            except ChannelClosedError:
                break
        self._stop_dispatcher()
        raise AirflowKnativeError("The dispatcher did not come up; the reason is in the scheduler's log above.")

    def _restart_dispatcher(self) -> None:
        self.log.error("The dispatcher ended; starting another. Running task instances report by themselves.")
        self._stop_dispatcher()
        self._start_dispatcher()
        for _, message in self._by_call.values():
            self._channel.send(message | {"again": True})

    def _stop_dispatcher(self) -> None:
        process = self._dispatcher
        if process is None:
            return
        self._dispatcher = None
        self._channel.close()
        try:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def _run(workload: ExecuteTask) -> dict[str, Any]:
    message = {"type": channel.RUN, "workload": workload.model_dump(mode="json"), "queued": time.time()}
    try:
        return message | {"knative": read_options(workload.ti.executor_config)}
    except OptionError as error:
        return message | {"trouble": str(error)}


def _identity(ti: TaskInstance) -> dict[str, Any]:
    key = ti.key
    return {
        "id": str(ti.id),
        "dag_id": key.dag_id,
        "run_id": key.run_id,
        "task_id": key.task_id,
        "map_index": key.map_index,
        "try_number": key.try_number,
        # What Airflow's model of a workload's task instance needs besides: remote logging takes that.
        "dag_version_id": ti.dag_version_id and str(ti.dag_version_id),
        "pool_slots": ti.pool_slots,
        "priority_weight": ti.priority_weight,
        "queue": ti.queue,
    }
