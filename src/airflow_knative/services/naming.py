"""Names of Knative Services.

A Knative Service's name is a DNS label (RFC 1123): at most 63 of `a-z`, `0-9` and `-`, with a letter or digit at both
ends. DAG and task ids may be longer and use more signs.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

__all__ = ["MAX_LENGTH", "PREFIX", "service_name"]

MAX_LENGTH: Final = 63
PREFIX: Final = "airflow-worker"
_HASH_LENGTH: Final = 8
_PLAIN = re.compile(r"[A-Za-z0-9_-]*[A-Za-z0-9]")
_OTHER_SIGN = re.compile(r"[^a-z0-9]")


def service_name(dag_id: str, task_id: str | None) -> str:
    """Name the service that runs a task, or all tasks of a DAG.

    Ids of letters, digits, `-` and `_` give a name that reads like them: lower case, `_` as `-`. A name that had to be
    cut, or in which other signs were folded to `-`, ends in a hash of the exact ids, since otherwise two tasks
    could easily meet in it. The rest (`a_b` beside `A-b`) is left to whoever renders a set of services to refuse.

    Args:
        dag_id: The DAG's exact id.
        task_id: The task's exact id with its task groups, or None for the service of a whole DAG.

    Returns:
        A DNS label of at most 63 signs, the same for the same ids in every process and version.
    """
    ids = [dag_id] if task_id is None else [dag_id, task_id]
    name = "-".join([PREFIX, *(_OTHER_SIGN.sub("-", part.lower()) for part in ids)])
    if len(name) <= MAX_LENGTH and all(_PLAIN.fullmatch(part) for part in ids):
        return name
    digest = hashlib.sha256("\0".join(ids).encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: MAX_LENGTH - _HASH_LENGTH - 1].rstrip('-')}-{digest}"
