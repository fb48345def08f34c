"""The contract between dispatcher and worker: the request, the streamed records, the signature.

Both sides import this package; it imports neither.
"""

from __future__ import annotations

from airflow_knative.wire.errors import SignatureRefusedError, UnsupportedVersionError, WireError
from airflow_knative.wire.problem import PROBLEM_TYPE, problem
from airflow_knative.wire.records import (
    Beat,
    Finished,
    LogLine,
    Missed,
    Record,
    Stages,
    Started,
    Write,
    decode_record,
    encode_record,
    is_state_line,
)
from airflow_knative.wire.request import (
    PROTOCOL_VERSION,
    TASK_PATH,
    VARIABLE_KEYS_PATH,
    ExecutionApi,
    Fence,
    Inputs,
    TaskRequest,
    XComValue,
    decode_request,
)
from airflow_knative.wire.signing import Claims, Signer, Verifier

__all__ = [
    "PROBLEM_TYPE",
    "PROTOCOL_VERSION",
    "TASK_PATH",
    "VARIABLE_KEYS_PATH",
    "Beat",
    "Claims",
    "ExecutionApi",
    "Fence",
    "Finished",
    "Inputs",
    "LogLine",
    "Missed",
    "Record",
    "SignatureRefusedError",
    "Signer",
    "Stages",
    "Started",
    "TaskRequest",
    "UnsupportedVersionError",
    "Verifier",
    "WireError",
    "Write",
    "XComValue",
    "decode_record",
    "decode_request",
    "encode_record",
    "is_state_line",
    "problem",
]
