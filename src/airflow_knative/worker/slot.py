"""A slot: one process that supervises one task instance at a time for the front."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from airflow.sdk._shared.secrets_masker import reset_secrets_masker
from airflow.sdk.api.datamodels._generated import API_VERSION
from airflow.sdk.execution_time.supervisor import _make_process_nondumpable

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.wire import Finished, LogLine, Record, Stages, decode_request, encode_record
from airflow_knative.worker import frames
from airflow_knative.worker.activity import TaskProcess
from airflow_knative.worker.process import adopt_orphans, die_with_parent, kill_children
from airflow_knative.worker.transport import JournalTransport

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from airflow_knative.wire import TaskRequest
    from airflow_knative.worker.dag import LoadedDag

__all__ = ["fork_slot"]

_REPORT_GRACE: Final = 60.0  # seconds to reach the Execution API after the end of a task whose caller is gone


def _slot_main(front: socket.socket, dag: LoadedDag, parent: int) -> None:
    """Serve requests from the front until it goes away."""
    die_with_parent(parent)
    adopt_orphans()
    _make_process_nondumpable()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the front decides when a task ends
    while _serve_one(front, dag):
        pass


def _serve_one(front: socket.socket, dag: LoadedDag) -> bool:
    """Fork a task process, wait for its task instance, see it through; False when the front is gone."""
    answer = _Answer(front)
    reset_secrets_masker()
    journal = JournalTransport(answer.emit)
    process = TaskProcess.fork(dag, journal, answer.emit)
    while True:
        if (frame := frames.recv_frame(front)) is None:
            process.discard()
            return False
        if frame.startswith(frames.RUN):
            break
        # Word about the task instance before: it came too late to matter.
    if not process.is_waiting():
        process = TaskProcess.fork(dag, journal, answer.emit)
    received, body = frames.unpack_run(frame)
    answer.emit(_run(process, decode_request(body), received, front, answer))
    answer.end()
    return not answer.front_gone


def _run(
    process: TaskProcess, request: TaskRequest, received: float, front: socket.socket, answer: _Answer
) -> Finished:
    """See one task instance through; whatever goes wrong, the answer gets its end."""
    started, code, state = time.time(), 1, "failed"
    try:
        _require_same_airflow(request)
        code = process.run(request, front, answer.hear_front)
        state = str(getattr(process.final_state, "value", process.final_state))
    except Exception as error:  # noqa: BLE001 - from Airflow's supervisor anything can come
        answer.log_error(f"The worker could not run the task: {error!r}", traceback.format_exc())
        process.discard()
    finished = time.time()
    if process.journal.caller_lost:
        process.report(deadline=time.monotonic() + _REPORT_GRACE)
    process.journal.close()
    kill_children(keep=set())
    stages = Stages(received=received, started=started, finished=finished)
    return Finished(state=state, exit_code=code, writes=len(process.journal.writes), stages=stages)


def _require_same_airflow(request: TaskRequest) -> None:
    if request.api_version != API_VERSION:
        raise AirflowKnativeError(
            f"The scheduler's Airflow speaks version {request.api_version} of the Execution API, the worker's "
            f"{API_VERSION}. Build the worker image with the scheduler's release of Airflow."
        )


class _Answer:
    """The records of one task instance on their way to the front."""

    def __init__(self, front: socket.socket) -> None:
        self._front = front
        self._caller_lost = False
        self.front_gone = False

    def emit(self, record: Record) -> None:
        if self._caller_lost:
            # Nobody reads the answer any more; the log would be lost with it.
            if isinstance(record, LogLine):
                print(record.line, file=sys.stdout, flush=True)  # noqa: T201
            return
        self._send(encode_record(record))

    def log_error(self, event: str, detail: str) -> None:
        """Add a line of the worker's own to the task's log."""
        line = {"timestamp": datetime.now(UTC).isoformat(), "level": "error", "event": event, "error_detail": detail}
        self.emit(LogLine(line=json.dumps(line | {"logger": "airflow_knative.worker"})))

    def end(self) -> None:
        self._send(frames.END)

    def hear_front(self, process: TaskProcess) -> None:
        """Act on a word from the front during a task instance."""
        frame = frames.recv_frame(self._front)
        if frame is None or frame == frames.STOP:
            if frame is None:
                process.selector.unregister(self._front)
                self.front_gone = self._caller_lost = True
            process.stop()
        elif frame == frames.CALLER_LOST:
            self._caller_lost = True
            process.lose_caller()

    def _send(self, payload: bytes) -> None:
        if self.front_gone:
            return
        try:
            frames.send_frame(self._front, payload)
        except OSError:
            self.front_gone = True


def fork_slot(front: socket.socket, dag: LoadedDag, *, close: Sequence[socket.socket]) -> int:
    """Fork a slot that talks to the front on `front`, and has no use for the sockets `close`; return its pid."""
    parent = os.getpid()
    if (pid := os.fork()) != 0:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for sock in close:
            sock.close()
        _slot_main(front, dag, parent)
        code = 0
    except Exception:  # noqa: BLE001 - this process has nobody above it to say so
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
