"""What a task can read without asking: the inputs of its request, and what it wrote since."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.wire import VARIABLE_KEYS_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_knative.wire import TaskRequest, Write

__all__ = ["MISS", "Answer", "KnownReads"]

# (status, JSON body or None, headers)
Answer = tuple[int, Any, dict[str, str]]
MISS: Final = None

_XCOM: Final = re.compile(r"/xcoms/([^/]+)/([^/]+)/([^/]+)/(.+)")
_ITEM: Final = re.compile(r"(.+)/item/(-?\d+)")
_FRESH: Final = 10.0
"""Seconds from the start for which a Variable or Connection that was sent counts as what there is now.

Anybody may change it meanwhile, and a task that waits for just that has to see it: the first read is saved, no other.
"""


def _not_found(message: str) -> Answer:
    return 404, {"detail": {"reason": "not_found", "message": message}}, {}


class KnownReads:
    """Answers the Execution API's reads of XComs, Variables and Connections as far as they are known."""

    def __init__(self, request: TaskRequest) -> None:
        """Start from what `request` carries."""
        inputs = request.inputs
        self._dag_id = str(request.ti["dag_id"])
        self._run_id = str(request.ti["run_id"])
        self._task_id = str(request.ti["task_id"])
        map_index = request.ti.get("map_index")
        self._map_index = -1 if map_index is None else int(map_index)
        self._tasks = set(inputs.tasks)
        self._omitted = set(inputs.omitted)
        self._fresh_until = time.monotonic() + _FRESH
        self._variables = dict(inputs.variables)
        self._connections = dict(inputs.connections)
        self._xcoms: dict[tuple[str, str], dict[int, Any]] = {}
        for xcom in inputs.xcoms:
            self._xcoms.setdefault((xcom.task_id, xcom.key), {})[xcom.map_index] = xcom.value

    def remember(self, write: Write) -> None:
        """Let the task read what it wrote."""
        if (match := _XCOM.fullmatch(write.path)) is None:
            return
        values = self._xcoms.setdefault((match[3], match[4]), {})
        self._omitted.discard((match[3], match[4]))
        map_index = int(write.query.get("map_index", -1))
        if write.method == "POST":
            values[map_index] = write.body
        else:
            values.pop(map_index, None)

    def outdate(self) -> None:
        """Others may have acted: what they could have written is not known any more."""
        self._variables.clear()
        self._connections.clear()

    def answer(self, method: str, path: str, query: Mapping[str, str]) -> Answer | None:
        """Answer a read, or return `MISS`."""
        if match := _XCOM.fullmatch(path):
            dag_id, run_id, task_id, key = match.groups()
            if (dag_id, run_id) != (self._dag_id, self._run_id) or query.get("include_prior_dates", "") in {
                "true",
                "True",
            }:
                return MISS
            return self._xcom(method, task_id, key, query)
        if method == "GET" and path.startswith("/variables/") and path != VARIABLE_KEYS_PATH:
            return self._variable(path.removeprefix("/variables/"))
        if method == "GET" and path.startswith("/connections/"):
            return self._connection(path.removeprefix("/connections/"))
        return MISS

    def _xcom(self, method: str, task_id: str, key: str, query: Mapping[str, str]) -> Answer | None:
        item = _ITEM.fullmatch(key)
        is_slice = method == "GET" and key.endswith("/slice")
        name = item[1] if item else key.removesuffix("/slice") if is_slice else key
        if (task_id, name) in self._omitted or "offset" in query:
            return MISS
        values = self._xcoms.get((task_id, name), {})
        missing = _not_found(f"XCom with key={name!r} not found for task {task_id!r} in this dag run")
        if method == "GET" and not item and not is_slice:
            map_index = int(query.get("map_index", -1))
            if map_index in values:
                return 200, {"key": name, "value": values[map_index]}, {}
            return missing if self._is_whole(task_id, map_index) else MISS
        if not self._is_whole(task_id):
            return MISS
        if method == "HEAD":
            return 200, None, {"Content-Range": f"map_indexes {len(values)}"}
        in_order = [value for _, value in sorted(values.items())]
        if item:
            offset = int(item[2])
            return (200, in_order[offset], {}) if -len(in_order) <= offset < len(in_order) else missing
        start, stop, step = (int(query[part]) if part in query else None for part in ("start", "stop", "step"))
        return 200, in_order[start : stop : step or 1], {}

    def _is_whole(self, task_id: str, map_index: int | None = None) -> bool:
        """Whether there is nothing but what is known of a task, or of one instance of it."""
        if task_id == self._task_id and self._map_index >= 0 and map_index != self._map_index:
            return False  # the other instances may be running
        return task_id in self._tasks

    def _variable(self, key: str) -> Answer | None:
        if key not in self._variables or time.monotonic() > self._fresh_until:
            return MISS
        value = self._variables.pop(key)
        return (
            _not_found(f"Variable with key {key!r} not found")
            if value is None
            else (200, {"key": key, "value": value}, {})
        )

    def _connection(self, conn_id: str) -> Answer | None:
        if conn_id not in self._connections or time.monotonic() > self._fresh_until:
            return MISS
        connection = self._connections.pop(conn_id)
        return _not_found(f"Connection with id {conn_id!r} not found") if connection is None else (200, connection, {})
