"""The request that a dispatcher sends to a worker: everything one task instance needs to run."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_knative.wire.errors import UnsupportedVersionError, WireError

__all__ = [
    "PROTOCOL_VERSION",
    "TASK_PATH",
    "VARIABLE_KEYS_PATH",
    "ExecutionApi",
    "Fence",
    "Inputs",
    "TaskRequest",
    "XComValue",
    "decode_request",
]

PROTOCOL_VERSION: Final = 1
TASK_PATH: Final = "/run_task_instance"
VARIABLE_KEYS_PATH: Final = "/variables/keys"
"""The Execution API lists keys there, which anybody may change: no Variable's, so it is never sent along."""

JsonObject = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class XComValue(_Model):
    """One XCom of the dag run as the Execution API stores it (serialised, JSON)."""

    task_id: str
    key: str
    map_index: Annotated[int, Field(ge=-1)]
    value: Any


class Inputs(_Model):
    """What the task will read, sent along so that it need not ask.

    `tasks` are known whole: a (task id, key) of theirs that has no value in `xcoms` and is not in `omitted` does not
    exist. Of a mapped task's own id that holds for the one instance only. `xcoms` may have values of other tasks, too,
    some of whose instances still run.
    """

    tasks: list[str] = []
    xcoms: list[XComValue] = []
    omitted: list[tuple[str, str]] = []
    """(task id, key) pairs too large to send: the worker reads them from the Execution API."""
    variables: dict[str, str | None] = {}
    """Value by key as the task instance was started; None is a Variable known not to exist."""
    connections: dict[str, JsonObject | None] = {}
    """The Execution API's connection object by connection id; None is a Connection known not to exist."""


class ExecutionApi(_Model):
    """Where a worker reads what was not sent along, and reports when it lost its caller."""

    url: str
    token: Annotated[str, Field(repr=False)]
    """JWT of scope `execution` for this task instance only."""


class Fence(_Model):
    """Who Airflow believes runs the task instance: what a heartbeat has to name to be accepted."""

    hostname: str
    pid: int


class TaskRequest(_Model):
    """One try of one task instance."""

    version: int = PROTOCOL_VERSION
    turn: Annotated[str, Field(min_length=1)]
    """New each time that the task instance is started: a deferred or rescheduled one comes back as the same try."""
    claim: bool = False
    """Whether the Execution API must accept the worker's heartbeat behind `fence` before anything of the task runs: the
    request may have waited so long that it is not wanted any more."""
    ti: JsonObject
    """The Execution API's `TaskInstance`: id (UUID), dag_id, task_id, run_id, try_number, map_index, ..."""
    dag_rel_path: str
    bundle_name: str
    bundle_version: str | None = None
    context: JsonObject
    """The Execution API's `TIRunContext`, as its *run* answered."""
    api_version: str
    """Version of the Execution API that `ti` and `context` are written in."""
    inputs: Inputs = Inputs()
    execution_api: ExecutionApi
    fence: Fence
    sentry_integration: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """(task instance id, try number): what a signature is for."""
        return str(self.ti["id"]), int(self.ti["try_number"])

    @property
    def once(self) -> tuple[str, int, str]:
        """What is never run twice."""
        return *self.key, self.turn


def decode_request(body: bytes) -> TaskRequest:
    """Read a request.

    Raises:
        UnsupportedVersionError: it is written in a version this side does not know.
        WireError: it is not JSON or breaks the contract.
    """
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"The request is not JSON: {error}. Send a TaskRequest.") from error
    version = raw.get("version") if isinstance(raw, dict) else None
    if version != PROTOCOL_VERSION:
        raise UnsupportedVersionError(
            f"The request is written in protocol version {version!r}, this worker knows version {PROTOCOL_VERSION}. "
            "Run the same release of airflow-knative in the scheduler and in the worker image."
        )
    try:
        request = TaskRequest.model_validate(raw)
        _ = request.key
    except (ValidationError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise WireError(f"The request breaks the contract: {error}") from error
    return request
