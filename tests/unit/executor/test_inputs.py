"""What travels with a request, read by Airflow's own tables on a database in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from airflow_knative.executor.inputs import Declared, Learned, read_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from airflow_knative.wire import Inputs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TI = UUID("01a2032d-f1ad-75ae-8c56-e25e404fe0f7")


class Run:
    """A dag run: each task instance has pushed its own name."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._add(
            DagRun,
            dag_id="d",
            run_id="r",
            run_type="manual",
            state="running",
            run_after=NOW,
            id=1,
            log_template_id=None,
        )

    def _add(self, model: Any, **values: Any) -> None:
        self._session.execute(insert(model).values(**values))

    def has(self, task_id: str, state: str | None, map_index: int = -1, ti_id: UUID | None = None) -> None:
        ids = {"dag_id": "d", "run_id": "r", "task_id": task_id, "map_index": map_index}
        self._add(
            TaskInstance, **ids, id=ti_id or uuid4(), state=state, pool="default_pool", pool_slots=1, span_status=""
        )
        self._add(XComModel, **ids, dag_run_id=1, key="name", value=f"{task_id}{map_index}")

    def inputs(self, *upstream: str, map_index: int = -1) -> Inputs:
        """Return what is sent with `task`, which is below `upstream`."""
        self.has("task", "running", map_index, TI)
        task = SimpleNamespace(upstream_task_ids=set(upstream))
        dag = SimpleNamespace(has_task=lambda _: True, get_task=lambda _: task)
        dag_bag: Any = SimpleNamespace(get_dag_for_run=lambda **_: dag)
        ti = {"id": str(TI), "dag_id": "d", "run_id": "r", "task_id": "task", "map_index": map_index}
        return read_inputs(self._session, dag_bag, ti, declared=Declared(), max_bytes=1000)


def _names(inputs: Inputs) -> list[str]:
    return sorted(str(xcom.value) for xcom in inputs.xcoms)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    import_all_models()
    Base.metadata.create_all(
        engine, tables=[Base.metadata.tables[name] for name in ("dag_run", "task_instance", "xcom")]
    )
    yield engine
    engine.dispose()


@pytest.fixture
def run(engine: Engine) -> Iterator[Run]:
    with Session(engine) as session:  # and roll it back
        yield Run(session)


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed"])
def test_a_task_that_has_ended_is_known_whole(run: Run, state: str) -> None:
    run.has("up", state)
    run.has("elsewhere", state)
    inputs = run.inputs("up")
    assert inputs.tasks == ["task", "up"]
    assert _names(inputs) == ["task-1", "up-1"]


@pytest.mark.parametrize("state", [None, "queued", "running", "up_for_retry", "up_for_reschedule", "deferred"])
def test_what_may_still_push_is_not_sent(run: Run, state: str | None) -> None:
    run.has("ended", "success")
    run.has("up", state)
    inputs = run.inputs("up", "ended")
    assert inputs.tasks == ["ended", "task"]
    assert _names(inputs) == ["ended-1", "task-1"]


def test_of_a_mapped_task_above_that_still_runs_ended_instances_are_sent(run: Run) -> None:
    for index, state in enumerate(("success", "running", "failed")):
        run.has("up", state, index)
    inputs = run.inputs("up", map_index=0)
    assert inputs.tasks == ["task"]
    assert _names(inputs) == ["task0", "up0", "up2"]


def test_of_the_other_instances_of_a_mapped_task_nothing_is_sent(run: Run) -> None:
    run.has("task", "success", 1)
    assert _names(run.inputs(map_index=0)) == ["task0"]


def test_what_was_missed_is_learned_except_for_the_list_of_variables() -> None:
    learned = Learned()
    for path in ("/variables/a/b", "/variables/keys", "/connections/c", "/xcoms/d/r/t/k"):
        learned.missed("d", "t", path)
    declared = learned.declared("d", "t", {"variables": ["more"]})
    assert (declared.variables, declared.connections) == ({"a/b", "more"}, {"c"})
