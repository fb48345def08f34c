"""The HTTP front of a worker: checks a request, hands it to a slot, streams the slot's records back.

A bare ASGI application: a framework would cost a worker's start more than these three routes are worth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.wire import (
    PROBLEM_TYPE,
    TASK_PATH,
    Finished,
    SignatureRefusedError,
    Stages,
    Started,
    UnsupportedVersionError,
    Verifier,
    WireError,
    decode_request,
    encode_record,
    problem,
)
from airflow_knative.wire.records import MEDIA_TYPE
from airflow_knative.worker.execution_api import Verdict, heartbeat
from airflow_knative.worker.receipts import Receipts

if TYPE_CHECKING:
    from airflow_knative.wire import TaskRequest
    from airflow_knative.worker.pool import Slot, SlotPool
    from airflow_knative.worker.settings import WorkerSettings

__all__ = ["Front"]

_WRITE_PREFIX: Final = b'{"type":"write"'


@dataclass(frozen=True)
class _Call:
    """An accepted request."""

    request: TaskRequest
    body: bytes
    received: float
    """Unix time in seconds."""


class _RefusedError(Exception):
    """A request is answered with a problem document."""

    def __init__(self, status: int, title: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.headers = headers


class _CallerGoneError(Exception):
    """Nobody is there to be answered."""


class Front:
    """The ASGI application."""

    def __init__(self, settings: WorkerSettings, pool: SlotPool, verifier: Verifier) -> None:
        """Serve `settings.dag_id` from `pool` to callers that `verifier` accepts."""
        self._settings = settings
        self._pool = pool
        self._verifier = verifier
        self._name = os.environ.get("HOSTNAME") or os.uname().nodename
        self.stopping = False
        self.receipts = Receipts()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            await self._route(scope, receive, send)
        except _RefusedError as refused:
            body = problem(refused.status, refused.title, str(refused), service=self._settings.service)
            await _respond(send, refused.status, PROBLEM_TYPE, body, refused.headers)
        except _CallerGoneError:
            return

    async def _route(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path, method = scope["path"], scope["method"]
        if path == TASK_PATH:
            if method != "POST":
                raise _RefusedError(405, "Method not allowed", f"{path} takes POST, not {method}.", allow="POST")
            await self._run(scope, receive, send)
            return
        if path not in {"/healthz", "/readyz"}:
            raise _RefusedError(
                404, "Not found", f"There is no {path!r} here, only POST {TASK_PATH}, GET /healthz and GET /readyz."
            )
        if method not in {"GET", "HEAD"}:
            raise _RefusedError(405, "Method not allowed", f"{path} takes GET, not {method}.", allow="GET, HEAD")
        if path == "/readyz" and (self.stopping or not self._pool.is_ready):
            reason = "is shutting down" if self.stopping else "has not imported its DAG yet"
            raise _RefusedError(503, "Not ready", f"The worker {reason}.")
        # Nobody else can tell of tasks whose caller is gone.
        await _respond(send, 200, "application/json", b'{"status":"ok","tasks":%d}' % self._pool.running)

    async def _run(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        received = time.time()
        body = await self._read_body(receive)
        request = self._accept(_bearer(scope), body)
        if self.stopping:
            raise _RefusedError(503, "Shutting down", "The worker takes no new work.", **{"retry-after": "1"})
        if self._pool.is_full:
            raise _RefusedError(
                503,
                "No free slot",
                f"All {self._settings.slots} slots of the worker are taken.",
                **{"retry-after": "1"},
            )
        if not self._pool.claim(request.once):
            raise _RefusedError(
                409,
                "Already taken",
                f"Try {request.key[1]} of task instance {request.key[0]} was handed to this worker before. It is never "
                "run twice.",
            )
        await self._answer(_Call(request, body, received), receive, send)

    def _accept(self, token: str | None, body: bytes) -> TaskRequest:
        try:
            claims = self._verifier.verify(token, body)
            request = decode_request(body)
        except SignatureRefusedError as error:
            raise _RefusedError(401, "Signature refused", str(error), **{"www-authenticate": "Bearer"}) from error
        except UnsupportedVersionError as error:
            raise _RefusedError(400, "Unsupported protocol version", str(error)) from error
        except WireError as error:
            raise _RefusedError(400, "Malformed request", str(error)) from error
        if (claims.ti_id, claims.try_number) != request.key:
            raise _RefusedError(401, "Signature refused", "The signature is for another task instance.")
        dag_id, task_id = str(request.ti.get("dag_id")), str(request.ti.get("task_id"))
        if dag_id != self._settings.dag_id or self._settings.task_id not in {None, task_id}:
            served = f"task {self._settings.task_id!r}" if self._settings.task_id else "every task"
            raise _RefusedError(
                404,
                "Unknown DAG or task",
                f"This worker serves {served} of DAG {self._settings.dag_id!r}, not {task_id!r} of DAG {dag_id!r}.",
            )
        return request

    async def _read_body(self, receive: Any) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _CallerGoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self._settings.max_body_bytes:
                raise _RefusedError(
                    413, "Request too large", f"The worker takes at most {self._settings.max_body_bytes} bytes."
                )
        return b"".join(parts)

    async def _answer(self, call: _Call, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(_disconnect(receive))
        try:
            async with contextlib.AsyncExitStack() as stack:
                taking = asyncio.ensure_future(stack.enter_async_context(self._pool.slot()))
                await asyncio.wait({taking, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():  # nobody waits for the DAG's import any more: the task never starts
                    taking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await taking
                    self._pool.forget(call.request.once)
                    return
                if call.request.claim:
                    await self._claim(call.request)
                await self._stream(taking.result(), call, gone, send)
        finally:
            gone.cancel()

    async def _claim(self, request: TaskRequest) -> None:
        """Make sure that the request is still wanted, after all its waiting, and that everybody knows it is taken."""
        verdict, said = await asyncio.to_thread(heartbeat, request)
        if verdict is Verdict.OURS:
            return
        self._pool.forget(request.once)
        if verdict is Verdict.NOT_OURS:
            raise _RefusedError(409, "No longer wanted", f"The Execution API refuses the claim of this request: {said}")
        raise _RefusedError(
            503,
            "Execution API away",
            f"This request has to be claimed at {request.execution_api.url}, which does not answer: {said}",
            **{"retry-after": "1"},
        )

    async def _stream(self, slot: Slot, call: _Call, gone: asyncio.Task[None], send: Any) -> None:
        gone.add_done_callback(lambda task: None if task.cancelled() else self._pool.lose_caller(slot))
        ti_id, try_number = call.request.key
        started = Started(ti_id=ti_id, try_number=try_number, worker=self._name, cold=self._pool.served == 0)
        self._pool.served += 1
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": encode_record(started), "more_body": True})
        writes: list[bytes] = []
        async for line in slot.run(call.received, call.body):
            if line.startswith(_WRITE_PREFIX):
                writes.append(line)
            if not gone.done():
                await send({"type": "http.response.body", "body": line, "more_body": True})
        if not slot.is_alive:
            lost = Finished(state="failed", exit_code=-9, writes=len(writes), stages=Stages(received=call.received))
            await send({"type": "http.response.body", "body": encode_record(lost), "more_body": True})
        self.receipts.keep(call.request, writes, doubtful=gone.done())
        await send({"type": "http.response.body", "body": b""})


async def _disconnect(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond(send: Any, status: int, media_type: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    raw = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    raw += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _bearer(scope: dict[str, Any]) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None
