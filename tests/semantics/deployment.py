"""One Airflow with two executors, on which every DAG runs twice."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import airflow
import psycopg2
from tests.local.stack import Stack
from tests.local.workers import eventually
from tests.semantics import rows

from airflow_knative.local.control import call
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.postgres import Postgres
from airflow_knative.local.secrets import Secrets
from airflow_knative.services.naming import service_name

if TYPE_CHECKING:
    from collections.abc import Callable

# Of those that need no outside service, no plugin, no other Python, no long wait and no chance.
EXAMPLES: Final = (
    *(
        f"airflow.example_dags.{name}"
        for name in (
            "example_branch_labels",
            "example_complex",
            "example_dynamic_task_mapping",
            "example_dynamic_task_mapping_with_no_taskflow_operators",
            "example_nested_branch_dag",
            "example_params_trigger_ui",
            "example_setup_teardown_taskflow",
            "example_simplest_dag",
            "example_skip_dag",
            "example_task_group",
            "example_xcom",
            "example_xcomargs",
            "tutorial_taskflow_api",
            "tutorial_taskflow_templates",
        )
    ),
    *(
        f"airflow.providers.standard.example_dags.{name}"
        for name in (
            "example_bash_decorator",
            "example_bash_operator",
            "example_branch_datetime_operator",
            "example_short_circuit_operator",
        )
    ),
)

_EXAMPLES_FOLDER = Path(airflow.__file__).parent / "example_dags"
DAGS = Path(__file__).parent / "dags"
EXECUTORS: Final = ("knative", "local")
RUN_ID: Final = "the_run"
LOGICAL_DATE: Final = "2026-01-01T00:00:00+00:00"
ENDED: Final = ("success", "failed")
_WITHIN: Final = 900.0  # seconds; all DAGs run at once

Rows = dict[str, list[dict[str, Any]]]


class Deployment:
    """A running instance; DAGs are named without the executor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self._connection: Any
        self._undo: ExitStack
        workflows = folder / "workflows"
        self.stack = Stack(folder, workflows)
        self.notes.mkdir()
        shutil.copytree(DAGS, workflows, ignore=shutil.ignore_patterns("__pycache__"))
        for module in EXAMPLES:
            # Airflow looks for the words dag and airflow in a file before it imports it.
            text = f"from twins import example  # airflow DAGs\n\nglobals().update(example({module!r}))\n"
            (workflows / f"{module.rpartition('.')[2]}.py").write_text(text)
        shutil.copytree(_EXAMPLES_FOLDER / "sql", workflows / "sql")  # a template of one of them

    def __enter__(self) -> Self:
        """Start it."""
        with ExitStack() as undo:
            undo.enter_context(self.stack.running("--granularity", "dag", **self._settings()))
            paths = StatePaths(self.stack.state)
            self.task_logs = paths.task_logs
            url = Postgres(paths, Secrets.load(paths).database_password).url
            self._connection = psycopg2.connect(url.replace("postgresql+psycopg2", "postgresql"))
            undo.callback(self._connection.close)
            self._connection.autocommit = True  # each look is to see what has happened meanwhile
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop it."""
        self._undo.close()

    def _settings(self) -> dict[str, str]:
        file = self.folder / "settings"
        file.mkdir()
        (file / "variables.json").write_text(json.dumps({"from_file": "of a file"}))
        (file / "connections.json").write_text(json.dumps({"file_connection": "http://me:pass@file.example:81/x"}))
        kwargs = {"variables_file_path": f"{file}/variables.json", "connections_file_path": f"{file}/connections.json"}
        return {
            # Branches and skips go by sets, which are to have the same order everywhere.
            "PYTHONHASHSEED": "0",
            # Everything runs at once here, and nothing dies.
            "AIRFLOW__KNATIVE__LOST_WORKER_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "300",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "300",
            "AIRFLOW__CORE__EXECUTOR": "airflow_knative.executor.KnativeExecutor,LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "8",
            # LocalExecutor's tasks import their DAG each: one that takes too long on a busy machine is rescheduled.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{self.folder}/xcoms",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "300000",
            "AIRFLOW__KNATIVE__MAX_INLINE_BYTES": "100000",
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs),
            "AIRFLOW_VAR_FROM_ENVIRONMENT": "of the environment",
            "AIRFLOW_CONN_ENV_CONNECTION": "mysql://me:pass@env.example:3306/base?charset=utf8",
        }

    def post(self, path: str, body: Any) -> Any:
        """POST something to Airflow's API."""
        response = self.stack.airflow.post(f"/api/v2/{path}", json=body)
        assert response.is_success, f"{path}: {response.text}"
        return response.json()

    def patch(self, path: str, body: Any) -> None:
        """PATCH something of Airflow's API."""
        response = self.stack.airflow.patch(f"/api/v2/{path}", json=body)
        assert response.is_success, f"{path}: {response.text}"

    def trigger(self, dag: str, *, run_id: str = RUN_ID, logical_date: str = LOGICAL_DATE, **conf: Any) -> None:
        """Start a run of both twins, alike."""
        for executor in EXECUTORS:
            body = {
                "dag_run_id": run_id,
                "logical_date": logical_date,
                "run_after": logical_date,  # what starts first, if not all may run at the same time
                "conf": {"notes": str(self.notes), **conf},
            }
            self.post(f"dags/{dag}_on_{executor}/dagRuns", body)

    def wait(self, dag: str, run_id: str = RUN_ID) -> str:
        """Wait for a run of both twins; returns its state, which has to be the same."""
        mine, stock = _of_both(dag, lambda dag_id: self._run_in(dag_id, run_id, *ENDED))
        assert mine == stock
        return mine

    def wait_for_note(self, dag: str, text: str) -> None:
        """Wait until both twins have noted something."""
        _of_both(dag, lambda dag_id: text in self._notes(dag_id))

    def wait_for_task(self, dag: str, task_id: str, *states: str, run_id: str = RUN_ID) -> None:
        """Wait until a task instance of both twins is in one of `states`."""
        query = "SELECT state FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s"
        _of_both(dag, lambda dag_id: self._one_of(states, query, dag_id, run_id, task_id))

    def wait_for_run(self, dag: str, run_id: str, state: str) -> None:
        """Wait until a run of both twins is in a state."""
        _of_both(dag, lambda dag_id: self._run_in(dag_id, run_id, state))

    def wait_for_version(self, dag: str, number: int) -> None:
        """Wait until Airflow has a version of both twins."""
        _of_both(dag, lambda dag_id: {"number": number} in rows.rows(self._connection, dag_id)["versions"])

    def _run_in(self, dag_id: str, run_id: str, *states: str) -> str | None:
        """Return a run's state if it is one of `states`."""
        return self._one_of(states, "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s", dag_id, run_id)

    def _one_of(self, states: tuple[str, ...], query: str, *where: str) -> str | None:
        """Ask the database for a state: asking Airflow's API as often would keep a processor busy."""
        found = self.query(query, *where)
        return str(found[0][0]) if found and found[0][0] in states else None

    def _notes(self, dag_id: str) -> str:
        path = self.notes / dag_id
        return path.read_text() if path.exists() else ""

    def query(self, query: str, *values: str) -> list[Any]:
        """Return the rows that Airflow's database answers with."""
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()

    def dags_of(self, example: str) -> list[str]:
        """Return the DAGs of one of `EXAMPLES`."""
        file = f"{example.rpartition('.')[2]}.py"
        found = self.query("SELECT dag_id FROM dag WHERE relative_fileloc = %s ORDER BY dag_id", file)
        return [dag_id.removesuffix("_on_local") for (dag_id,) in found if dag_id.endswith("_on_local")]

    def change(self, dag: str, source: str) -> None:
        """Write a DAG's file, and wait until its service has workers with it."""
        before = self._revision(dag)
        (self.stack.workflows / f"{dag}.py").write_text(source)
        eventually(lambda: self._revision(dag) != before, within=_WITHIN)

    def _revision(self, dag: str) -> str | None:
        name = service_name(f"{dag}_on_knative", None)
        services = call(StatePaths(self.stack.state).control, "status", timeout=60.0)["services"]
        return next((str(service["revision"]) for service in services if service["service"] == name), None)

    def rows(self, dag: str, executor: str = "knative") -> Rows:
        """Return what is in the database of one twin."""
        return rows.rows(self._connection, f"{dag}_on_{executor}")

    def compare(self, dag: str, *, logged: bool = True) -> Rows:
        """Assert that both twins left the same rows, notes and, if `logged`, logs; return the rows."""
        mine, stock = (self.rows(dag, executor) for executor in EXECUTORS)
        for kind, found in mine.items():
            assert found == stock[kind], f"{dag}: {kind} differ from those of LocalExecutor"
        notes = [self.noted(dag, executor) for executor in EXECUTORS]
        assert notes[0] == notes[1]
        if logged:
            logs = [rows.logs(self.task_logs, f"{dag}_on_{executor}") for executor in EXECUTORS]
            assert logs[0] == logs[1]
        return mine

    def noted(self, dag: str, executor: str = "knative") -> list[str]:
        """Return what one twin noted."""
        return sorted(rows.plain(self._notes(f"{dag}_on_{executor}")).splitlines())

    def repeat_what_stock_loses(self, dag: str, *started: str) -> None:
        """Run twins again if LocalExecutor failed a task instance that had waited and was back before its event.

        Runs of DAGs that were `started` by theirs go first, since these will want their ids.
        Airflow's scheduler then logs a `state mismatch`. A slow machine is enough for that.
        """
        seen = 0
        for _ in range(3):
            _of_both(dag, lambda dag_id: self._run_in(dag_id, RUN_ID, *ENDED))
            lost = self._mismatches(f"{dag}_on_local")
            if lost == seen:
                return
            seen = lost
            for dag_id in [f"{name}_on_{executor}" for name in (*started, dag) for executor in EXECUTORS]:
                self._forget_runs(dag_id)
            self.trigger(dag)

    def _forget_runs(self, dag_id: str) -> None:
        for (run_id,) in self.query("SELECT run_id FROM dag_run WHERE dag_id = %s", dag_id):
            eventually(partial(self._run_in, dag_id, run_id, *ENDED), within=_WITHIN)
            self.stack.airflow.delete(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}").raise_for_status()
        shutil.rmtree(self.task_logs / f"dag_id={dag_id}")

    def _mismatches(self, dag_id: str) -> int:
        query = "SELECT count(*) FROM log WHERE event = 'state mismatch' AND dag_id = %s"
        return int(self.query(query, dag_id)[0][0])

    def same(self, dag: str, state: str = "success", *, logged: bool = True) -> Rows:
        """Wait for both twins, assert that they left the same and ended in `state`, and return the rows."""
        ended = self.wait(dag)
        found = self.compare(dag, logged=logged)
        assert ended == state
        return found


def _of_both(dag: str, look: Callable[[str], Any]) -> list[Any]:
    """Wait until `look` finds something in both twins, given their ids; return what."""
    return [eventually(partial(look, f"{dag}_on_{executor}"), within=_WITHIN) for executor in EXECUTORS]


def tasks(found: Rows) -> dict[str, str | None]:
    """Return the state of each task instance: `task`, or `task[map index]`."""
    return {
        task["task_id"] + (f"[{task['map_index']}]" if task["map_index"] >= 0 else ""): task["state"]
        for task in found["tasks"]
    }


def tries(found: Rows) -> dict[str, int]:
    """Return each task's try number."""
    return {task["task_id"]: task["try_number"] for task in found["tasks"]}


def xcoms(found: Rows, key: str = "return_value") -> dict[str, Any]:
    """Return the XComs of a key by task id, as they are stored; those of a mapped task as a list."""
    values: dict[str, Any] = {}
    for xcom in found["xcoms"]:
        if xcom["key"] == key and xcom["map_index"] >= 0:
            values.setdefault(xcom["task_id"], []).append(xcom["value"])
        elif xcom["key"] == key:
            values[xcom["task_id"]] = xcom["value"]
    return values
