"""What a worker leaves out of its start, and that nobody can tell afterwards: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from airflow_knative.wire.keys import generate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

_DAG = """
from airflow.sdk import dag, task

@dag(dag_id="one", schedule=None)
def one():
    @task
    def first():
        pass

    first()

one()
"""


class Start:
    """A worker's start in another process, and code after it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "airflow"
        self.dags = folder / "dags"
        self.dags.mkdir()
        (self.dags / "one.py").write_text(_DAG)
        self.public = folder / "public.pem"
        generate(folder / "private.pem", self.public)

    def run(self, code: str, **environment: str) -> str:
        """Run `code` after Airflow's import; return what it prints."""
        own = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "K_SERVICE": "service",
            "AIRFLOW_KNATIVE_WORKER_DAG_FILE": "one.py",
            "AIRFLOW_KNATIVE_WORKER_DAG_ID": "one",
            "AIRFLOW_KNATIVE_WORKER_PUBLIC_KEY": str(self.public),
        }
        inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        program = (
            "import os, sys\nbefore = dict(os.environ)\n"
            "from airflow_knative.worker.lean import import_airflow\nimport_airflow()\n"
        ) + textwrap.dedent(code)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=inherited | own | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n").rpartition("\n")[2]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


_LOAD = """
from airflow_knative.worker.dag import load_dag
from airflow_knative.worker.settings import WorkerSettings
loaded = load_dag(WorkerSettings.from_environment())
"""


def test_neither_database_nor_the_schedulers_half_of_airflow_comes_in(start: Start) -> None:
    code = f"""{_LOAD}
from airflow import settings
print(settings.engine, sorted({{"airflow.models.taskinstance", "airflow.dag_processing.dagbag", "libcst", "rich",
    "asyncpg", "psycopg2", "aiosqlite"}} & set(sys.modules)))
"""
    assert start.run(code) == "None []"


def test_the_environment_is_as_before(start: Start) -> None:
    assert start.run("print(dict(os.environ) == before)") == "True"


def test_no_configuration_is_written(start: Start) -> None:
    start.run("print()")
    assert not (start.home / "airflow.cfg").exists()


@pytest.mark.parametrize("variable", ["AIRFLOW_HOME", "AIRFLOW_CONFIG"])
def test_a_configuration_that_is_there_counts(start: Start, variable: str) -> None:
    start.home.mkdir()
    config = start.home / ("airflow.cfg" if variable == "AIRFLOW_HOME" else "other.cfg")
    config.write_text("[core]\ndefault_task_retries = 7\n")
    environment = {} if variable == "AIRFLOW_HOME" else {variable: str(config)}
    code = "from airflow.sdk.configuration import conf\nprint(conf.get('core', 'default_task_retries'))"
    assert start.run(code, **environment) == "7"


def test_what_was_kept_out_can_be_imported(start: Start) -> None:
    code = "import libcst, rich.console, yaml\nprint(libcst.CSTTransformer.__module__, yaml.SafeLoader.__module__)"
    assert start.run(code) == "libcst._visitors yaml.loader"


@pytest.mark.parametrize("first", ["", "import libcst"])
def test_decorators_are_removed_from_source_as_ever(start: Start, first: str) -> None:
    code = f"""
    from airflow.sdk.definitions._internal.decorators import remove_task_decorator
    {first}
    source = "@task.virtualenv\\n@other\\ndef f():\\n    pass\\n"
    print(repr(remove_task_decorator(source, "@task.virtualenv")), repr(remove_task_decorator(source, "@other")))
    """
    assert start.run(code) == (r"'@other\ndef f():\n    pass\n' '@task.virtualenv\ndef f():\n    pass\n'")


def test_cluster_policies_apply(start: Start, tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "airflow_local_settings.py").write_text("def task_policy(task):\n    task.queue = 'changed'\n")
    code = _LOAD + "print(loaded._dag.task_dict['first'].queue)"
    assert start.run(code, PYTHONPATH=str(policies)) == "changed"


def test_plugins_of_airflow_home_are_on_the_path(start: Start) -> None:
    plugins = start.home / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "ours.py").write_text("WORD = 'found'\n")
    assert start.run("import ours\nprint(ours.WORD)") == "found"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("from airflow.sdk import DAG\ntwo = DAG('two', schedule=None)", "holds no DAG 'one', only two"),
        ("x = 1", "holds no DAG 'one', only none"),
    ],
)
def test_a_file_without_the_dag_is_refused_with_the_reason(start: Start, text: str, said: str) -> None:
    (start.dags / "one.py").write_text(text)
    code = """
from airflow_knative.errors import AirflowKnativeError
from airflow_knative.worker.dag import load_dag
from airflow_knative.worker.settings import WorkerSettings
try:
    load_dag(WorkerSettings.from_environment())
except AirflowKnativeError as error:
    print(repr(str(error)))
"""
    assert said in start.run(code)
