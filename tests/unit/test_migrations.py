from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import psycopg2
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from airflow_knative import after_database, migrations
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.postgres import Postgres
from airflow_knative.migrations import UnknownError, code_heads, database_heads, main, wanted_heads

if TYPE_CHECKING:
    from collections.abc import Iterator

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
URL = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


@pytest.fixture(autouse=True)
def _no_airflow_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "airflow.cfg"))
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        monkeypatch.delenv(name)


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of Airflow that took over."""
    command: list[str] = []
    monkeypatch.setattr("os.execvp", lambda _, arguments: command.extend(arguments))
    return command


def _alembic_heads(folder: Path) -> set[str]:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return set(ScriptDirectory.from_config(config).get_heads())


def test_the_heads_are_those_that_airflow_finds() -> None:
    """What is known here is what the installed Airflow looks at, in the same tables and with the same result."""
    from airflow._shared.module_loading import import_string  # noqa: PLC0415
    from airflow.providers_manager import ProvidersManager  # noqa: PLC0415

    package = Path(sys.modules["airflow"].__path__[0])
    expected = {"alembic_version": _alembic_heads(package / "migrations")}
    for name in ProvidersManager().db_managers:
        manager = import_string(name)
        expected[manager.version_table_name] = _alembic_heads(Path(manager.migration_dir))
    assert wanted_heads({"AIRFLOW__CORE__AUTH_MANAGER": FAB}) == expected
    assert len(expected) == 2


def test_nothing_of_airflow_is_imported() -> None:
    code = (
        "import os, sys\nfrom airflow_knative.migrations import wanted_heads\nwanted_heads(os.environ)\n"
        "sys.exit('airflow' in sys.modules or 'sqlalchemy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_heads_of_branches(tmp_path: Path) -> None:
    for name, text in {
        "a": "revision = 'a'\ndown_revision = None",
        "b": "revision: str = 'b'\ndown_revision: str | None = 'a'",
        "c": "revision = 'c'\ndown_revision = 'a'",
        "d": "import nowhere\nrevision = 'd'\ndown_revision = ('b', 'c')\nother = nowhere.x",
        "e": "revision = 'e'\ndown_revision = 'c'",
        "other": "x = 1",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert code_heads(tmp_path) == {"d", "e"}


def test_a_folder_without_migrations_is_not_taken_for_a_migrated_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownError, match="no migrations"):
        code_heads(tmp_path)


@pytest.mark.parametrize(
    ("section", "option"), [("database", "external_db_managers"), ("core", "auth_manager")], ids=["managers", "auth"]
)
@pytest.mark.parametrize("in_file", [True, False], ids=["file", "variable"])
def test_other_managers_are_airflows_to_check(tmp_path: Path, section: str, option: str, *, in_file: bool) -> None:
    environ = {"AIRFLOW_CONFIG": str(tmp_path / "airflow.cfg")}
    if in_file:
        (tmp_path / "airflow.cfg").write_text(f"[{section}]\n{option} = company.Manager\nother = 100%\n")
    else:
        environ[f"AIRFLOW__{section.upper()}__{option.upper()}"] = "company.Manager"
    with pytest.raises(UnknownError, match=r"external_db_managers|company\.Manager"):
        wanted_heads(environ)


class _Installed(Distribution):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        return self.folder / path


@pytest.mark.parametrize("text", ["{'db-managers': ['company.Manager']}", None], ids=["tables", "not found"])
def test_other_providers_are_airflows_to_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "company.py").write_text(text)
    entry = EntryPoint("provider_info", "company:get_provider_info", "apache_airflow_provider")
    vars(entry)["dist"] = _Installed(tmp_path)
    monkeypatch.setattr(migrations, "entry_points", lambda group: [entry] if group else [])
    with pytest.raises(UnknownError, match="company"):
        wanted_heads({})


@pytest.mark.parametrize(
    "url", ["", "mysql://user:secret@host/db", "postgresql+psycopg2://user:secret@h/db?nonsense=1"]
)
def test_a_database_that_only_airflow_can_ask(
    url: str, handed_over: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(URL, url)
    main()
    assert handed_over[:3] == ["airflow", "db", "check-migrations"]
    assert "secret" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    root = Path(tempfile.mkdtemp(prefix="akm-"))
    paths = StatePaths(root / "state")
    paths.create()
    postgres = Postgres(paths, "p@ss")
    subprocess.run(postgres.initdb_command(), preexec_fn=postgres.setup(), check=True, capture_output=True, cwd=root)
    with (root / "log").open("w") as log:
        server = subprocess.Popen(postgres.command, preexec_fn=postgres.setup(), stderr=log, cwd=root)  # noqa: PLW1509
    while not postgres.is_ready(server.pid):
        assert server.poll() is None
        time.sleep(0.05)
    yield postgres.url
    server.send_signal(signal.SIGINT)
    server.wait()
    shutil.rmtree(root)


@pytest.fixture
def migrated(database: str) -> Iterator[str]:
    """A database with the heads of this Airflow."""
    for table, heads in wanted_heads({}).items():
        _sql(database, f"CREATE TABLE {table} (version_num VARCHAR(32) NOT NULL)")
        for head in heads:
            _sql(database, f"INSERT INTO {table} VALUES ('{head}')")  # noqa: S608
    yield database
    for table in wanted_heads({}):
        _sql(database, f"DROP TABLE IF EXISTS {table}")


def _sql(url: str, statement: str) -> None:
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def test_a_migrated_database(migrated: str, handed_over: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, migrated)
    main()
    assert not handed_over
    assert database_heads(migrated, wanted_heads({})) == wanted_heads({})


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE alembic_version",
        "DROP TABLE alembic_version_fab",
        "DELETE FROM alembic_version",
        "UPDATE alembic_version SET version_num = 'newer'",
        "INSERT INTO alembic_version_fab VALUES ('another')",
    ],
)
def test_one_that_is_not_is_waited_for_and_then_airflows_to_check(
    migrated: str, handed_over: list[str], monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    _sql(migrated, statement)
    monkeypatch.setenv(URL, migrated)
    monkeypatch.setattr(migrations, "_WAIT", 0.1)
    monkeypatch.setattr(migrations, "_PAUSE", 0.01)
    main()
    assert handed_over


def test_one_that_is_migrated_meanwhile(migrated: str, handed_over: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not there at first, then it is empty, and then it is as it should be."""
    monkeypatch.setenv(URL, migrated)
    steps = iter([psycopg2.OperationalError("refused"), {}, None])

    def asked(url: str, tables: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        step = next(steps)
        if isinstance(step, Exception):
            raise step
        return database_heads(url, tables) if step is None else step

    monkeypatch.setattr(migrations, "database_heads", asked)
    monkeypatch.setattr(migrations, "_PAUSE", 0.01)
    main()
    assert not handed_over
    assert next(steps, "used up") == "used up"


def _start(url: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", after_database.__name__, *arguments]
    environment = os.environ | {URL: url}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_command_that_waits_only_for_a_database_that_answers(database: str) -> None:
    """It need not be migrated, and the command takes the place of what waited."""
    process = _start(database, "sh", "-c", "echo $$")
    said, complained = process.communicate(timeout=60)
    assert (int(said), complained, process.returncode) == (process.pid, "", 0)


def test_a_command_whose_database_comes_back(database: str) -> None:
    folder = Path(dict(parse_qsl(urlsplit(database).query))["host"])
    (socket,) = folder.glob(".s.PGSQL.????")
    away = socket.rename(folder / "away")
    process = _start(database, "echo", "started")
    assert process.stderr is not None
    assert "Waiting for the database: " in process.stderr.readline()
    away.rename(socket)
    assert process.communicate(timeout=60)[0] == "started\n"


def test_a_command_whose_database_only_airflow_can_ask() -> None:
    said, complained = _start("mysql://user:secret@host/db", "echo", "started").communicate(timeout=60)
    assert said == "started\n"
    assert "Not waiting for the database: " in complained
    assert "secret" not in complained


def test_no_command() -> None:
    process = _start("")
    assert "usage: " in process.communicate(timeout=60)[1]
    assert process.returncode == 1
