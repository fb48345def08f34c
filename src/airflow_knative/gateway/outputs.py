"""The output of a run that has succeeded."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from airflow_knative.gateway.airflow import RefusedError
from airflow_knative.gateway.payload import plain
from airflow_knative.gateway.runs import refused

if TYPE_CHECKING:
    from airflow_knative.gateway.airflow import Airflow
    from airflow_knative.gateway.auth import Caller
    from airflow_knative.gateway.runs import Run

__all__ = ["Outputs"]

_REMEMBERED: Final = 1000


class _Shape(NamedTuple):
    """What the output depends on of a DAG."""

    leaves: tuple[str, ...]
    mapped: frozenset[str]


class Outputs:
    """Finds the outputs of runs, for all calls of the process.

    The output is what the DAG returns; without that, the value of its only leaf; without that, an object of all
    leaves' values. A task that returned nothing counts as null: Airflow does not store that.
    """

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow
        self._shapes: OrderedDict[str, _Shape] = OrderedDict()

    async def of(self, caller: Caller, run: Run) -> Any:
        """Return the output of a run that has succeeded.

        Raises:
            ProblemError: the caller may not read it.
        """
        try:
            values = await self._values(caller, run)
        except RefusedError as error:
            raise refused(error, f"read the output of run {run.run_id!r}", **run.location) from error
        output = next(iter(values.values())) if len(values) == 1 else values
        return plain(output) if run.wrapped else output

    async def _values(self, caller: Caller, run: Run) -> dict[str, Any]:
        if run.results:
            if not any(isinstance(value, list) for value in run.results.values()):
                return run.results
            shape = await self._shape(caller, run)
            return {task: await self._whole(caller, run, shape, task, value) for task, value in run.results.items()}
        shape = await self._shape(caller, run)
        if not shape.leaves:
            return {"": None}
        answer = await caller.call(
            lambda token: self._airflow.wait(token, run.dag_id, run.run_id, interval=1, tasks=shape.leaves)
        )
        run.wrapped = answer.wrapped
        return {task: await self._whole(caller, run, shape, task, answer.results.get(task)) for task in shape.leaves}

    async def _whole(self, caller: Caller, run: Run, shape: _Shape, task: str, value: Any) -> Any:
        """Put the nulls back into the values of a mapped task: Airflow leaves out what it has not stored."""
        if task not in shape.mapped:
            return value
        values = value if isinstance(value, list) else []
        query = f"task_id={quote(task, safe='')}&limit=1"
        first, total = await caller.call(
            lambda token: self._airflow.task_instances(token, run.dag_id, run.run_id, query)
        )
        if total == 1 and first and first[0].get("map_index") == -1:
            return []  # mapped over nothing: one placeholder, which was skipped
        if len(values) == total:
            return values
        indexes = await caller.call(
            lambda token: self._airflow.returned_map_indexes(token, run.dag_id, run.run_id, task)
        )
        by_index = dict(zip(indexes, values, strict=False))
        return [by_index.get(index) for index in range(total)]

    async def _shape(self, caller: Caller, run: Run) -> _Shape:
        shape = self._shapes.get(run.version) if run.version is not None else None
        if shape is not None:
            return shape
        tasks = await caller.call(lambda token: self._airflow.tasks(token, run.dag_id))
        shape = _Shape(
            tuple(str(task["task_id"]) for task in tasks if not task.get("downstream_task_ids")),
            frozenset(str(task["task_id"]) for task in tasks if task.get("is_mapped")),
        )
        if run.version is not None:
            self._shapes[run.version] = shape
            if len(self._shapes) > _REMEMBERED:
                self._shapes.popitem(last=False)
        return shape
