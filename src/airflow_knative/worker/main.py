"""The main process of a worker: listens at once, imports the DAG, forks slots, reaps.

The front is forked before the import, so that early requests are held rather than refused; slots are forked after it,
from a process that has one thread and no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.wire import Verifier
from airflow_knative.wire.keys import load_public
from airflow_knative.worker.front import Front
from airflow_knative.worker.pool import READY, SlotPool
from airflow_knative.worker.process import adopt_orphans, die_with_parent, kill_children
from airflow_knative.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from airflow_knative.worker.dag import LoadedDag

__all__ = ["main"]

_STOP_MARGIN: Final = 10
"""Seconds after the grace period for ending the tasks that did not finish within it, and saying so."""

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Run a worker until SIGTERM."""
    # Held back, in this process and in the front, until each can act on it: a front that died of one would take along
    # the requests that reached it before.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        code = _run(WorkerSettings.from_environment())
    except AirflowKnativeError as error:
        print(f"airflow-knative worker: {error}", file=sys.stderr, flush=True)  # noqa: T201
        code = 1
    sys.exit(code)


def _run(settings: WorkerSettings) -> int:
    begun = time.perf_counter()
    verifier = Verifier(load_public(settings.public_key), audience=settings.service)
    adopt_orphans()
    listener = _listen(settings)
    control, front_control = socket.socketpair()
    parent = os.getpid()
    if (front := os.fork()) == 0:
        control.close()
        die_with_parent(parent)
        _front_main(settings, verifier, listener, front_control)
    front_control.close()
    listener.close()
    for number in _STOPS:
        signal.signal(number, lambda *_: os.kill(front, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    try:
        return _serve(settings, control, front, begun)
    finally:
        signal.set_wakeup_fd(-1)
        kill_children(keep=set())


def _listen(settings: WorkerSettings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port), backlog=1024, reuse_port=False)
    except OSError as error:
        raise AirflowKnativeError(
            f"The worker cannot listen on {settings.host}:{settings.port} (PORT): {error.strerror}."
        ) from error


def _serve(settings: WorkerSettings, control: socket.socket, front: int, begun: float) -> int:
    # Imported here so that the front is up before: this is the long part of a cold start.
    from airflow_knative.worker.lean import import_airflow  # noqa: PLC0415

    import_airflow()
    from airflow_knative.worker import slot  # noqa: F401, PLC0415 - before the freeze
    from airflow_knative.worker.dag import load_dag  # noqa: PLC0415

    dag = load_dag(settings)
    gc.freeze()  # forked processes then share these pages for good
    gc.enable()
    with contextlib.suppress(BrokenPipeError):  # the front was told to stop, and has gone
        control.send(READY)
    task = f" task {settings.task_id}" if settings.task_id else ""
    print(  # noqa: T201
        f"airflow-knative worker {settings.service}: ready for DAG {settings.dag_id}{task} "
        f"on port {settings.port} after {time.perf_counter() - begun:.2f} s",
        flush=True,
    )
    return _fork_and_reap(control, front, dag)


def _fork_and_reap(control: socket.socket, front: int, dag: LoadedDag) -> int:
    """Fork a slot at each word of the front, reap what ends; return the front's exit code."""
    from airflow_knative.worker.slot import fork_slot  # noqa: PLC0415

    slots: set[int] = set()
    wake, wake_write = socket.socketpair()
    wake_write.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
    wake_write.send(b"\0")  # for what ended before
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake:
                    wake.recv(4096)
                    code = _reap(front, slots)
                    if code is not None:
                        return code
                elif control.recv(1):  # SPAWN
                    ours, theirs = socket.socketpair()
                    slots.add(fork_slot(theirs, dag, close=(control, ours, wake, wake_write)))
                    socket.send_fds(control, [b"s"], [ours.fileno()])
                    ours.close()
                    theirs.close()
                else:
                    selector.unregister(control)  # the front is on its way out


def _reap(front: int, slots: set[int]) -> int | None:
    """Collect ended children; return the front's exit code once it ended."""
    result: int | None = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            pid, status = ended
            if pid == front:
                result = os.waitstatus_to_exitcode(status)
            elif pid in slots:
                slots.discard(pid)
                # What a dead slot supervised was adopted by this process.
                kill_children(keep=slots | {front})
    return result


def _front_main(settings: WorkerSettings, verifier: Verifier, listener: socket.socket, control: socket.socket) -> None:
    """Run the front in its own process; does not return."""
    code = 1
    try:
        asyncio.run(_serve_front(settings, verifier, listener, control))
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _serve_front(
    settings: WorkerSettings, verifier: Verifier, listener: socket.socket, control: socket.socket
) -> None:
    import uvicorn  # noqa: PLC0415 - here, where only the front pays for it, and beside Airflow's import

    gc.freeze()
    gc.enable()
    pool = SlotPool(control, settings.slots)
    front = Front(settings, pool, verifier)
    server = uvicorn.Server(
        uvicorn.Config(
            front,
            http="httptools",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.grace) + _STOP_MARGIN,
        )
    )
    listening = asyncio.create_task(pool.listen())
    keeping = asyncio.create_task(front.receipts.run())
    loop = asyncio.get_running_loop()
    deadline = 0.0

    def stop() -> None:
        nonlocal deadline
        if front.stopping:
            return
        deadline = loop.time() + settings.grace + _STOP_MARGIN
        front.stopping = True
        server.should_exit = True
        loop.call_later(settings.grace, pool.stop)

    # uvicorn would take SIGTERM for itself, and with it the moment from which new requests are refused.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    for number in _STOPS:
        loop.add_signal_handler(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    await server.serve(sockets=[listener])
    with contextlib.suppress(TimeoutError):
        # The server waits for connections; a task whose caller is gone has none.
        async with asyncio.timeout_at(deadline):
            await pool.idle()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_MARGIN):
            await front.receipts.drain()
    listening.cancel()
    keeping.cancel()
