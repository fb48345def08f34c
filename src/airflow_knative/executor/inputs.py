"""What a task will read, gathered before it runs: XComs of its upstream tasks and its own, Variables, Connections."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow.api_fastapi.execution_api.routes.connections import get_connection
from airflow.api_fastapi.execution_api.routes.variables import get_variable
from airflow.configuration import conf
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import State
from fastapi import HTTPException
from sqlalchemy import exists, or_, select

from airflow_knative.executor.journal import Owner
from airflow_knative.wire import VARIABLE_KEYS_PATH, Inputs, XComValue

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.models.dagbag import DBDagBag
    from sqlalchemy.orm import Session

__all__ = ["Declared", "Learned", "read_inputs"]

_REMEMBERED_TASKS: Final = 10_000
_REMEMBERED_READS: Final = 100


@dataclass
class Declared:
    """Variables and Connections to send along."""

    variables: set[str] = field(default_factory=set)
    connections: set[str] = field(default_factory=set)


class Learned:
    """Which Variables and Connections each task had to ask for, so that its next instance need not."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._by_task: OrderedDict[tuple[str, str], Declared] = OrderedDict()

    def missed(self, dag_id: str, task_id: str, path: str) -> None:
        """Take note of a read that was not sent along: `/variables/<key>` or `/connections/<id>`."""
        _, kind, *rest = path.split("/", 2)
        if kind not in {"variables", "connections"} or not rest or path == VARIABLE_KEYS_PATH:
            return
        declared = self._by_task.setdefault((dag_id, task_id), Declared())
        names = declared.variables if kind == "variables" else declared.connections
        if len(names) < _REMEMBERED_READS:
            names.add(rest[0])
        if len(self._by_task) > _REMEMBERED_TASKS:
            self._by_task.popitem(last=False)

    def declared(self, dag_id: str, task_id: str, knative: dict[str, Any]) -> Declared:
        """Return what to send a task: what it missed before, and what its `executor_config` names."""
        learned = self._by_task.get((dag_id, task_id), Declared())
        return Declared(
            variables=learned.variables | set(knative.get("variables", ())),
            connections=learned.connections | set(knative.get("connections", ())),
        )


def read_inputs(
    session: Session, dag_bag: DBDagBag, ti: dict[str, Any], *, declared: Declared, max_bytes: int
) -> Inputs:
    """Gather the inputs of a task instance.

    Args:
        session: reads the database.
        dag_bag: finds the run's DAG.
        ti: the task instance, as JSON.
        declared: Variables and Connections to send along.
        max_bytes: of XComs; of what is beyond, the largest (task, key) pairs are omitted.
    """
    upstream = _upstream(session, dag_bag, ti)
    unended = _unended(session, ti, upstream)  # asked first: what has ended by then has pushed all its XComs
    xcoms = _xcoms(session, ti, upstream, unended)
    omitted = _too_large(xcoms, max_bytes)
    shared = conf.getboolean("core", "multi_team")  # then who may read what is the Execution API's to judge
    return Inputs(
        tasks=sorted({str(ti["task_id"])} | upstream - unended),
        xcoms=[xcom for xcom in xcoms if (xcom.task_id, xcom.key) not in omitted],
        omitted=sorted(omitted),
        variables={} if shared else {key: _variable(key) for key in sorted(declared.variables)},
        connections={} if shared else {conn_id: _connection(conn_id) for conn_id in sorted(declared.connections)},
    )


def _upstream(session: Session, dag_bag: DBDagBag, ti: dict[str, Any]) -> set[str]:
    """The tasks right above a task instance's own."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == ti["dag_id"], DagRun.run_id == ti["run_id"]))
    dag = dag_bag.get_dag_for_run(dag_run=run, session=session) if run is not None else None
    if dag is None or not dag.has_task(ti["task_id"]):
        return set()
    return set(dag.get_task(ti["task_id"]).upstream_task_ids)


def _unended(session: Session, ti: dict[str, Any], tasks: set[str]) -> set[str]:
    """Those of `tasks` with an instance that may still push: by trigger rules, or above another instance of a group."""
    if not tasks:
        return set()
    found = session.scalars(
        select(TaskInstance.task_id)
        .where(
            TaskInstance.dag_id == ti["dag_id"],
            TaskInstance.run_id == ti["run_id"],
            TaskInstance.task_id.in_(tasks),
            or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(State.finished)),
        )
        .distinct()
    )
    return set(found)


def _xcoms(session: Session, ti: dict[str, Any], upstream: set[str], unended: set[str]) -> list[XComValue]:
    """What stays as it is: XComs of the instance itself, which a retry clears, and of ended ones right above it."""
    own = str(ti["task_id"])
    query = select(XComModel.task_id, XComModel.key, XComModel.map_index, XComModel.value).where(
        XComModel.dag_id == ti["dag_id"],
        XComModel.run_id == ti["run_id"],
        XComModel.task_id.in_({own} | upstream),
        or_(XComModel.task_id != own, XComModel.map_index == Owner.of(ti).map_index),
    )
    if unended:
        has_ended = exists().where(
            TaskInstance.dag_id == XComModel.dag_id,
            TaskInstance.run_id == XComModel.run_id,
            TaskInstance.task_id == XComModel.task_id,
            TaskInstance.map_index == XComModel.map_index,
            TaskInstance.state.in_(State.finished),
        )
        query = query.where(or_(XComModel.task_id.not_in(unended), has_ended))
    return [XComValue(task_id=row[0], key=row[1], map_index=row[2], value=row[3]) for row in session.execute(query)]


def _too_large(xcoms: list[XComValue], max_bytes: int) -> set[tuple[str, str]]:
    sizes: dict[tuple[str, str], int] = {}
    for xcom in xcoms:
        pair = xcom.task_id, xcom.key
        sizes[pair] = sizes.get(pair, 0) + len(json.dumps(xcom.value))
    omitted = set()
    total = sum(sizes.values())
    for pair, size in sorted(sizes.items(), key=lambda item: item[1], reverse=True):
        if total <= max_bytes:
            break
        omitted.add(pair)
        total -= size
    return omitted


def _variable(key: str) -> str | None:
    found = _ask(lambda: get_variable(key, team_name=None))
    return None if found is None else found.val


def _connection(conn_id: str) -> dict[str, Any] | None:
    found = _ask(lambda: get_connection(conn_id, team_name=None))
    return None if found is None else found.model_dump(mode="json", by_alias=True)


def _ask(route: Callable[[], Any]) -> Any:
    try:
        return route()
    except HTTPException:
        return None
