"""DAG ids, run ids and idempotency keys: what they may look like, and how the gateway makes them."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Final

from airflow_knative.gateway.problems import ProblemError

__all__ = ["checked_dag_id", "checked_run_id", "idempotent_run_id", "new_run_id", "parse_idempotency_key"]

_LONGEST_ID: Final = 250
_DAG_ID: Final = re.compile(r"[\w.-]+")
_RUN_ID: Final = re.compile(r"[^/\\\x00-\x1f\x7f]+")
# "." and ".." would be taken for path segments by proxies on the way, and "~" is Airflow's wildcard.
_RESERVED: Final = frozenset({".", "..", "~"})
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_KEY_HEADER: Final = "Idempotency-Key"


def checked_dag_id(dag_id: str) -> str:
    """Return the id if a DAG may have it, so that nothing else ever gets into a URL of Airflow's API.

    Raises:
        ProblemError: no DAG can have this id.
    """
    if len(dag_id) > _LONGEST_ID or dag_id in _RESERVED or not _DAG_ID.fullmatch(dag_id):
        raise ProblemError(
            "unknown-workflow",
            f"{dag_id[:_LONGEST_ID]!r} cannot be the id of a workflow: allowed are letters, digits, '_', '-' and '.', "
            f"at most {_LONGEST_ID} of them. Use the dag_id of a DAG.",
        )
    return dag_id


def checked_run_id(dag_id: str, run_id: str) -> str:
    """Return the id if a run may have it.

    Raises:
        ProblemError: no run can have this id.
    """
    if len(run_id) > _LONGEST_ID or run_id in _RESERVED or not _RUN_ID.fullmatch(run_id):
        raise ProblemError(
            "unknown-run",
            f"{run_id[:_LONGEST_ID]!r} cannot be the id of a run. Use the run_id of an answer of the gateway.",
            dag_id=dag_id,
        )
    return run_id


def new_run_id() -> str:
    """Return a run id that no other call gets and that sorts by time.

    The gateway chooses it, not Airflow, so that a trigger whose answer was lost can be sent again without a second run.
    """
    return f"gateway__{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}_{secrets.token_hex(4)}"


def idempotent_run_id(identity: str, dag_id: str, key: str) -> str:
    """Return the run id that every replica of the gateway derives for this user, DAG and idempotency key."""
    digest = hashlib.blake2b(digest_size=20, person=b"airflow-knative")
    for part in (identity, dag_id, key):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return f"gateway__key_{digest.hexdigest()}"


def parse_idempotency_key(values: list[str]) -> str | None:
    """Return the idempotency key of a call, None when it has none. Quotes around it are allowed.

    Raises:
        ProblemError: the key is empty, too long, has other signs than visible ASCII, or is given twice.
    """
    if not values:
        return None
    key = values[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or not _KEY.fullmatch(key):
        raise ProblemError(
            "malformed-request",
            f"The {_KEY_HEADER} header is not usable: allowed is one key of 1 to 255 visible ASCII characters. "
            "A fresh UUID for each run is a good one.",
        )
    return key
