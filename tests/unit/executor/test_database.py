"""Who owns a task instance, by Airflow's own tables and routes, on a database in memory."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from airflow_knative.executor import database as module
from airflow_knative.executor.claims import is_unclaimed
from airflow_knative.executor.database import Beat, Database, FencedOffError, NotRunnableError
from airflow_knative.executor.inputs import Declared
from airflow_knative.executor.journal import Owner, WriteRefusedError
from airflow_knative.wire import Fence, Inputs, Write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from airflow_knative.wire import TaskRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TI = UUID("01a2032d-f1ad-75ae-8c56-e25e404fe0f7")
OWNER = Owner(ti_id=TI, dag_id="d", run_id="r", task_id="t", map_index=-1)
WORKLOAD = {
    "ti": {"id": str(TI), "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 1},
    "dag_rel_path": "d.py",
    "bundle_info": {"name": "b", "version": None},
}
SUCCESS = Write(
    seq=0,
    method="PATCH",
    path=f"/task-instances/{TI}/state",
    body={"state": "success", "end_date": NOW.isoformat(), "task_outlets": [], "outlet_events": []},
)


@pytest.fixture(scope="module")
def tables() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    import_all_models()
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(tables: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A queued task instance."""

    @contextlib.contextmanager
    def create_session(**_: Any) -> Iterator[Session]:
        with Session(tables) as session:
            yield session
            session.commit()

    monkeypatch.setattr(module, "create_session", create_session)
    monkeypatch.setattr(module, "read_inputs", lambda *_, **__: Inputs())
    rows: list[tuple[Any, dict[str, Any]]] = [
        (DagModel, {"dag_id": "d"}),
        (DagRun, {"dag_id": "d", "run_id": "r", "run_type": "manual", "state": "running", "run_after": NOW}),
        (TaskInstance, {"id": TI, "dag_id": "d", "run_id": "r", "task_id": "t", "state": "queued", "try_number": 1}),
    ]
    with Session(tables) as session, session.begin():
        for model, values in rows:
            session.execute(insert(model).values(**_whatever(model) | values))
    yield tables
    with tables.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())


def _whatever(model: Any) -> dict[str, Any]:
    """Return a value for each column that needs one."""
    needed = [column for column in model.__table__.columns if not (column.nullable or column.default)]
    return {
        column.name: {int: 0, bool: False, str: "", datetime: NOW}[column.type.python_type]
        for column in needed
        if column.name != "id"
    }


@pytest.fixture
def database(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(module, "_jwt_generator", lambda: SimpleNamespace(generate=lambda **_: "token"))
    return Database(max_inline_bytes=1)


def _start(database: Database, fence: Fence, *, held: datetime | None = None, again: bool = False) -> TaskRequest:
    return database.start(WORKLOAD, fence, held=held, again=again, declared=Declared(), valid_for=60.0)


def _row(engine: Engine) -> Any:
    columns = TaskInstance.state, TaskInstance.pid, TaskInstance.external_executor_id, TaskInstance.last_heartbeat_at
    with Session(engine) as session:
        return session.execute(select(*columns)).one()


def _claim(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.execute(update(TaskInstance).values(last_heartbeat_at=datetime.now(UTC)))


def test_every_start_has_a_fence_of_its_own(database: Database) -> None:
    fences = [database.new_fence() for _ in range(100)]
    assert len({fence.pid for fence in fences}) == 100
    assert all(4_194_304 <= fence.pid < 2**31 for fence in fences)  # no process has such a number


def test_a_task_instance_is_started_once(database: Database, engine: Engine) -> None:
    fence = database.new_fence()
    request = _start(database, fence)
    assert (request.fence, request.claim) == (fence, False)
    assert tuple(_row(engine))[:3] == ("running", fence.pid, None)
    _start(database, fence)  # its answer may have got lost
    with pytest.raises(NotRunnableError) as refused:
        _start(database, database.new_fence())  # queued twice by a scheduler that took it for stuck
    assert refused.value.state == "running"
    with pytest.raises(NotRunnableError):
        _start(database, database.new_fence(), again=True)  # it may be running


def test_a_held_request_is_started_again_until_it_is_claimed(database: Database, engine: Engine) -> None:
    first, second = database.new_fence(), database.new_fence()
    assert _start(database, first, held=NOW).claim
    assert is_unclaimed(*_row(engine)[2:])
    _start(database, second, held=NOW + timedelta(seconds=1), again=True)
    assert tuple(_row(engine))[:2] == ("running", second.pid)
    _claim(engine)
    assert not is_unclaimed(*_row(engine)[2:])
    with pytest.raises(NotRunnableError):
        _start(database, database.new_fence(), again=True)


def test_heartbeats_keep_a_request_held_only_while_nobody_claims_it(database: Database, engine: Engine) -> None:
    fence = database.new_fence()
    _start(database, fence, held=NOW)
    lost, held = database.heartbeat([Beat(str(TI), fence, NOW)])
    assert (lost, set(held)) == (set(), {str(TI)})
    assert is_unclaimed(*_row(engine)[2:])
    _claim(engine)
    assert database.heartbeat([Beat(str(TI), fence, held[str(TI)])]) == (set(), {})
    assert not is_unclaimed(*_row(engine)[2:])


def test_a_heartbeat_behind_another_fence_is_told_so(database: Database) -> None:
    fence = database.new_fence()
    _start(database, fence)
    other = Beat(str(TI), database.new_fence(), None)
    missing = Beat(str(uuid4()), fence, None)
    assert database.heartbeat([other, missing]) == ({other.ti_id, missing.ti_id}, {})
    assert database.heartbeat([Beat(str(TI), fence, None)]) == (set(), {})


def test_a_request_that_has_to_wait_after_all_is_held(database: Database, engine: Engine) -> None:
    fence = database.new_fence()
    _start(database, fence)
    assert database.hold(OWNER, fence, NOW)
    assert is_unclaimed(*_row(engine)[2:])
    assert not database.hold(OWNER, database.new_fence(), NOW)


@pytest.mark.parametrize("whole_dag", [False, True])
@pytest.mark.parametrize("of_task", ["t", "other"])
def test_a_service_that_is_at_work_for_others_is_known_by_their_heartbeats(
    database: Database, engine: Engine, of_task: str, *, whole_dag: bool
) -> None:
    other = dataclasses.replace(OWNER, ti_id=uuid4())
    with Session(engine) as session, session.begin():
        session.execute(update(TaskInstance).values(task_id=of_task))

    def serves(since: datetime, owner: Owner = other) -> bool:
        return database.serves_others(owner, since=since, whole_dag=whole_dag)

    assert not serves(NOW)
    _start(database, database.new_fence(), held=datetime.now(UTC))
    assert not serves(NOW)  # nobody has claimed it
    _claim(engine)
    assert serves(NOW) is (whole_dag or of_task == "t")
    assert not serves(NOW, OWNER)
    assert not serves(datetime.now(UTC) + timedelta(seconds=1))


def test_writes_count_behind_their_fence_and_may_be_repeated(database: Database, engine: Engine) -> None:
    fence = database.new_fence()
    _start(database, fence)
    with pytest.raises(FencedOffError):
        database.apply(OWNER, database.new_fence(), [SUCCESS], settled=False)
    assert _row(engine).state == "running"
    for _ in range(2):  # the connection may break after the commit
        assert database.apply(OWNER, fence, [SUCCESS], settled=False)
        assert _row(engine).state == "success"


@pytest.mark.parametrize("value", [None, 7, "failed", {"state": "success"}])
def test_an_xcom_called_state_says_nothing_of_the_task_instance(
    database: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    applied: list[Write] = []
    monkeypatch.setattr(module, "apply_write", lambda _session, _dag_bag, _owner, write: applied.append(write) or False)
    fence, xcom = database.new_fence(), Write(seq=0, method="POST", path="/xcoms/d/r/t/state", body=value)
    _start(database, fence)
    assert not database.apply(OWNER, fence, [xcom], settled=False)
    assert applied == [xcom]
    with Session(engine) as session, session.begin():
        session.execute(update(TaskInstance).values(state="success"))
    with pytest.raises(FencedOffError):
        database.apply(OWNER, fence, [xcom], settled=False)


@pytest.mark.parametrize("body", [None, 7, [], "state"])
def test_a_state_that_is_none_is_refused(database: Database, body: Any) -> None:
    fence = database.new_fence()
    _start(database, fence)
    with pytest.raises(WriteRefusedError):
        database.apply(OWNER, fence, [SUCCESS.model_copy(update={"body": body})], settled=False)


def test_who_is_fenced_off_writes_nothing(database: Database, engine: Engine) -> None:
    fence = database.new_fence()
    _start(database, fence)
    assert database.fence_off(OWNER, fence)
    assert not database.fence_off(OWNER, fence)
    with pytest.raises(FencedOffError):
        database.apply(OWNER, fence, [SUCCESS], settled=False)
    assert _row(engine).state == "running"
