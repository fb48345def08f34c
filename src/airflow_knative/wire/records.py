"""The records of a worker's answer: one JSON object a line (NDJSON), written as things happen."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from airflow_knative.wire.errors import WireError

__all__ = [
    "Beat",
    "Finished",
    "LogLine",
    "Missed",
    "Record",
    "Stages",
    "Started",
    "Write",
    "decode_record",
    "encode_record",
    "is_state_line",
]

MEDIA_TYPE: Final = "application/x-ndjson"

_STATE: Final = re.compile(r"/task-instances/[^/]+/state")
_STATE_LINE: Final = re.compile(  # as `encode_record` orders it
    rb'\{"type":"write","seq":[0-9]+,"method":"[A-Z]+","path":"/task-instances/[^/"]+/state"'
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Started(_Record):
    """The first record: the request was accepted and is this worker's to run."""

    type: Literal["started"] = "started"
    ti_id: str
    try_number: int
    worker: str
    """Name of the pod or process."""
    cold: bool
    """Whether this is the first request that this worker serves."""


class LogLine(_Record):
    """One line of the task's log, JSON as Airflow's log files hold it."""

    type: Literal["log"] = "log"
    line: str


class Write(_Record):
    """A write on the Execution API, to be replayed by the dispatcher in the order of `seq`."""

    type: Literal["write"] = "write"
    seq: Annotated[int, Field(ge=0)]
    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: str
    """Below the API's root, percent-decoded: `/xcoms/<dag>/<run>/<task>/<key>`."""
    query: dict[str, str] = {}
    body: Any = None

    @property
    def is_state(self) -> bool:
        """Whether it is the task instance's state, and not, say, an XCom whose key is `state`."""
        return _STATE.fullmatch(self.path) is not None


class Missed(_Record):
    """A read that was not sent along; the worker asked the Execution API itself."""

    type: Literal["missed"] = "missed"
    path: str


class Beat(_Record):
    """Nothing happened, and the task process is alive."""

    type: Literal["heartbeat"] = "heartbeat"


class Stages(_Record):
    """When a task instance passed the stages of a worker: Unix time in seconds."""

    received: float
    started: float | None = None
    finished: float | None = None


class Finished(_Record):
    """The last record: without it an answer has broken off, whatever its status says."""

    type: Literal["finished"] = "finished"
    state: str
    """The task instance's state as the supervisor knows it."""
    exit_code: int
    writes: Annotated[int, Field(ge=0)]
    """How many `write` records came before."""
    stages: Stages


Record = Started | LogLine | Write | Missed | Beat | Finished

_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="type")])


def encode_record(record: Record) -> bytes:
    """Return the record as one line, its line feed included."""
    return record.model_dump_json().encode() + b"\n"


def is_state_line(line: bytes) -> bool:
    """Tell of an encoded record whether it is a write with `is_state`; its body, which may be large, is not read."""
    return _STATE_LINE.match(line) is not None


def decode_record(line: bytes) -> Record:
    """Read one line.

    Raises:
        WireError: it is no record.
    """
    try:
        return _RECORD.validate_json(line)
    except ValidationError as error:
        shown = line[:200].decode(errors="replace")
        raise WireError(
            f"The worker sent {shown!r}, which is no record ({error.errors(include_url=False)[0]['msg']})."
        ) from error
