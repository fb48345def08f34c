"""Reading from Airflow's database what a plan needs: a DAG's structure, and how far a run has got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.ti_deps.deps.ready_to_reschedule import ReadyToRescheduleDep
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import func, select

from airflow_knative.executor.prewarm_plan import Node, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow.models.dagbag import DBDagBag
    from airflow.serialization.definitions.dag import SerializedDAG
    from sqlalchemy.orm import Session

__all__ = ["RunReader"]

_ACTIVE: Final = frozenset(
    {
        TaskInstanceState.SCHEDULED,
        TaskInstanceState.QUEUED,
        TaskInstanceState.RUNNING,
        TaskInstanceState.RESTARTING,
    }
)
_WAITING: Final = frozenset(
    {TaskInstanceState.DEFERRED, TaskInstanceState.UP_FOR_RETRY, TaskInstanceState.UP_FOR_RESCHEDULE}
)
_FAILED: Final = frozenset({TaskInstanceState.FAILED, TaskInstanceState.UPSTREAM_FAILED, TaskInstanceState.REMOVED})
# Airflow leaves its mark of such operators off where one is mapped by `.expand` of a decorated function.
_DECIDING: Final = ("Branch", "ShortCircuit")

Nodes = dict[str, Node]


class RunReader:
    """Reads runs; a DAG's structure is kept as long as Airflow keeps the DAG."""

    def __init__(self, dag_bag: DBDagBag) -> None:
        """Find DAGs in `dag_bag`."""
        self._dag_bag = dag_bag
        self._kept: dict[str, tuple[SerializedDAG, Nodes]] = {}

    def read(self, session: Session, dag_id: str, run_id: str) -> tuple[Nodes, dict[str, Progress]] | None:
        """Return the DAG's tasks and how far each has got; None if the run is over or gone."""
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None or run.state != DagRunState.RUNNING:
            return None
        dag = self._dag_bag.get_dag_for_run(dag_run=run, session=session)
        if dag is None:
            return None
        rows: Iterable[Any] = session.execute(
            select(
                TaskInstance.task_id,
                TaskInstance.state,
                func.count(),
                func.min(TaskInstance.start_date),
            )
            .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
            .group_by(TaskInstance.task_id, TaskInstance.state)
        )
        return self._nodes(dag), _progress(rows)

    def _nodes(self, dag: SerializedDAG) -> Nodes:
        kept = self._kept.get(dag.dag_id)
        if kept is None or kept[0] is not dag:
            kept = self._kept[dag.dag_id] = dag, {task.task_id: _node(task) for task in dag.tasks}
        return kept[1]


def _node(task: Any) -> Node:
    return Node(
        task_id=task.task_id,
        upstream=frozenset(task.upstream_task_ids),
        downstream=frozenset(task.downstream_task_ids),
        trigger_rule=str(getattr(task.trigger_rule, "value", task.trigger_rule)),
        decides=bool(task.inherits_from_skipmixin) or any(name in task.task_type for name in _DECIDING),
        waits=bool(task.start_from_trigger) or any(isinstance(dep, ReadyToRescheduleDep) for dep in task.deps),
        runs=not task.inherits_from_empty_operator,
    )


def _progress(rows: Iterable[tuple[str, str | None, int, datetime | None]]) -> dict[str, Progress]:
    by_task: dict[str, list[tuple[str | None, int, datetime | None]]] = {}
    for task_id, state, count, started in rows:
        by_task.setdefault(task_id, []).append((state, count, started))
    found = {}
    for task_id, counts in by_task.items():
        states = {state for state, _, _ in counts}
        running = [started for state, _, started in counts if state == TaskInstanceState.RUNNING and started]
        found[task_id] = Progress(
            unfinished=sum(count for state, count, _ in counts if state is None or state in _ACTIVE | _WAITING),
            started=min(running).timestamp() if running else None,
            is_active=bool(states & _ACTIVE),
            is_waiting=bool(states & _WAITING),
            succeeded=TaskInstanceState.SUCCESS in states,
            failed=bool(states & _FAILED),
            skipped=TaskInstanceState.SKIPPED in states,
        )
    return found
