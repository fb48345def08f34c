from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from airflow_knative.local.errors import LocalError
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.postgres import Postgres

from .conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def root() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="akl-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("deep", [False, True], ids=["short path", "path too deep for a socket"])
def test_a_database_comes_up_and_wants_its_password(root: Path, deep: bool) -> None:  # noqa: FBT001
    paths = StatePaths(root / ("x" * 100 if deep else "state"))
    paths.create()
    postgres = Postgres(paths, "p@ss/word")
    assert not postgres.is_initialised
    subprocess.run(postgres.initdb_command(), preexec_fn=postgres.setup(), check=True, capture_output=True, cwd=root)
    postgres.discard_password_file()
    assert postgres.is_initialised
    postgres.check_version()
    with (root / "log").open("w") as log:
        server = subprocess.Popen(postgres.command, preexec_fn=postgres.setup(), stderr=log, cwd=root)  # noqa: PLW1509
    try:
        until(lambda: postgres.is_ready(server.pid))
        assert not postgres.is_ready(server.pid + 1)
        url = postgres.url.replace("+psycopg2", "")
        connection = psycopg2.connect(url)
        with connection.cursor() as cursor:
            cursor.execute("select current_user, inet_server_addr()")
            assert cursor.fetchone() == ("airflow", None)
        connection.close()
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(url.replace("p%40ss", "wrong"))
        assert not [path for path in paths.run.iterdir() if "password" in path.name]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    assert server.returncode == 0
    if deep:
        assert postgres.socket_folder != paths.run
        assert postgres.socket_folder.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(postgres.socket_folder)


def test_data_of_another_version_is_refused(root: Path) -> None:
    paths = StatePaths(root / "state")
    paths.create()
    paths.postgres.mkdir()
    (paths.postgres / "PG_VERSION").write_text("9\n")
    with pytest.raises(LocalError, match="PostgreSQL 9"):
        Postgres(paths, "x").check_version()


def test_what_was_committed_survives_a_killed_server(root: Path) -> None:
    paths = StatePaths(root / "state")
    paths.create()
    postgres = Postgres(paths, "password")
    subprocess.run(postgres.initdb_command(), preexec_fn=postgres.setup(), check=True, capture_output=True, cwd=root)
    postgres.discard_password_file()
    with _served(postgres, root, signal.SIGKILL) as connection, connection.cursor() as cursor:
        cursor.execute("create table kept (number integer)")
        for number in range(100):  # each a commit of its own
            cursor.execute("insert into kept values (%s)", [number])
    with _served(postgres, root, signal.SIGINT) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from kept")
        assert cursor.fetchone() == (100,)


@contextmanager
def _served(postgres: Postgres, root: Path, end: signal.Signals) -> Iterator[Any]:
    """Yield a connection to a server that gets the signal `end` right afterwards."""
    with (root / "log").open("a") as log:
        server = subprocess.Popen(postgres.command, preexec_fn=postgres.setup(), stderr=log, cwd=root)  # noqa: PLW1509
    try:
        until(lambda: postgres.is_ready(server.pid))
        connection = psycopg2.connect(postgres.url.replace("+psycopg2", ""))
        connection.autocommit = True
        yield connection
    finally:
        server.send_signal(end)
        server.wait()
    connection.close()
