"""`python -m airflow_knative.migrations`: return when Airflow's database is as the installed Airflow needs it.

`airflow db check-migrations` imports all of Airflow to compare a few revisions: seconds of processor time in every pod
that waits. This reads the code's revisions out of the migrations' files, and the database's with its driver alone.

It says nothing but that they are the same. Where Airflow may look at more than is known here, or they are still not the
same after a while, Airflow's own check takes over and has the last word.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import sys
import time
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.connect_args import PSYCOPG2

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UnknownError", "code_heads", "database_heads", "database_url", "main", "wait_for", "wanted_heads"]

# Tables of revisions, and where in the package `airflow` their migrations are: Airflow's own, and those of the one
# provider known here that has tables (`BaseDBManager` in Airflow's utils/db_manager.py).
_OWN: Final = ("alembic_version", "migrations/versions")
_FAB: Final = ("alembic_version_fab", "providers/fab/migrations/versions")
_FAB_PROVIDER: Final = "airflow.providers.fab.get_provider_info"
_AUTH_MANAGERS: Final = (
    "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
    "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
)
_DRIVER: Final = re.compile(r"postgresql(\+psycopg2)?://")

_WAIT: Final = 120.0
_PAUSE: Final = 1.0
_AIRFLOWS_CHECK: Final = ("airflow", "db", "check-migrations", "--migration-wait-timeout", "480")


class UnknownError(Exception):
    """Only Airflow itself knows what is to be checked here; the message says why."""


def code_heads(folder: Path) -> frozenset[str]:
    """Return the revisions that no other one follows, out of a folder of Alembic's migrations."""
    revisions: set[str] = set()
    followed: set[str] = set()
    for file in folder.glob("*.py"):
        names = _assigned(file)
        if isinstance(revision := names.get("revision"), str):
            revisions.add(revision)
            before = names.get("down_revision") or ()
            followed.update([before] if isinstance(before, str) else before)
    if not revisions:
        raise UnknownError(f"{folder} has no migrations")
    return frozenset(revisions - followed)


def wanted_heads(environ: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return the heads of the installed Airflow and its providers, by the table that has them in the database.

    Raises:
        UnknownError: something is installed or set that may have more tables.
    """
    if _option(environ, "database", "external_db_managers"):
        raise UnknownError("[database] external_db_managers is set")
    manager = _option(environ, "core", "auth_manager")
    if manager and manager not in _AUTH_MANAGERS:
        raise UnknownError(f"the auth manager is {manager}")
    spec = find_spec("airflow")  # this does not import it
    if spec is None or spec.origin is None:
        raise UnknownError("Airflow is not installed")
    package = Path(spec.origin).parent
    return {table: code_heads(package / folder) for table, folder in (_OWN, *_provided())}


def database_heads(url: str, tables: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return the revisions in these tables of a database; a table that is not there has none.

    Raises:
        psycopg2.Error: the database is not there, or does not let us in.
    """
    import psycopg2  # noqa: PLC0415 -- where Airflow takes over it need not be installed

    found = {}
    connection = psycopg2.connect(_DRIVER.sub("postgresql://", url), **PSYCOPG2)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for table in tables:
                try:
                    cursor.execute(f"SELECT version_num FROM {table}")  # noqa: S608 -- a name of the constants above
                except psycopg2.errors.UndefinedTable:
                    found[table] = frozenset[str]()
                else:
                    found[table] = frozenset(row[0] for row in cursor)
    finally:
        connection.close()
    return found


def database_url(environ: Mapping[str, str]) -> str:
    """Return the URL of Airflow's database.

    Raises:
        UnknownError: there is none, or it is for another driver than psycopg2.
    """
    url = environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "")
    if not _DRIVER.match(url):
        raise UnknownError("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN has no URL for psycopg2")
    return url


def main() -> None:
    """Return when the database is migrated; become Airflow's own check where that has to tell."""
    try:
        wait_for(database_url(os.environ), wanted_heads(os.environ))
    except UnknownError as reason:
        sys.stderr.write(f"Airflow itself checks the database: {reason}.\n")
        sys.stderr.flush()
        os.execvp(_AIRFLOWS_CHECK[0], _AIRFLOWS_CHECK)  # noqa: S606 -- fixed arguments, and no shell is wanted


def wait_for(url: str, wanted: Mapping[str, frozenset[str]]) -> None:
    """Return when a database has these revisions; with none, when it answers.

    Raises:
        UnknownError: it has not for 120 s, or cannot be asked.
    """
    import psycopg2  # noqa: PLC0415

    until = time.monotonic() + _WAIT
    shown = ""
    while True:
        try:
            found = database_heads(url, wanted)
            if found == wanted:
                return
            said = f"it has {_shown(found)} instead of {_shown(wanted)}"
        except psycopg2.ProgrammingError as error:
            # Such as a URL that SQLAlchemy understands, but libpq does not. The error may quote it, password and all.
            raise UnknownError(f"psycopg2 does not get through ({type(error).__name__})") from error
        except psycopg2.Error as error:
            said = str(error).strip()
        if time.monotonic() >= until:
            raise UnknownError(f"after {_WAIT:g} s {said}")
        if said != shown:
            sys.stderr.write(f"Waiting for the database: {said}\n")
            sys.stderr.flush()
            shown = said
        time.sleep(_PAUSE)


def _provided() -> list[tuple[str, str]]:
    """Return the tables of the installed providers' migrations, in the form of `_OWN`."""
    tables = []
    for provider in entry_points(group="apache_airflow_provider"):
        if provider.module.split(".")[0] == "airflow_knative":
            continue  # it has none
        # Read, not imported: a provider's module brings Airflow along.
        place = provider.module.replace(".", "/") + ".py"
        file = Path(str(provider.dist.locate_file(place))) if provider.dist is not None else Path(place)
        if not file.is_file():
            raise UnknownError(f"{provider.module} is not where it was expected")
        if "db-managers" in file.read_text(encoding="utf-8"):
            if provider.module != _FAB_PROVIDER:
                raise UnknownError(f"{provider.module} has tables of its own")
            tables.append(_FAB)
    return tables


def _option(environ: Mapping[str, str], section: str, option: str) -> str | None:
    """Return an option of Airflow's configuration, None where it has not been set."""
    variable = f"AIRFLOW__{section.upper()}__{option.upper()}"
    if variable in environ:
        return environ[variable]
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read(environ.get("AIRFLOW_CONFIG") or Path(environ.get("AIRFLOW_HOME", "~/airflow"), "airflow.cfg"))
    return parser.get(section, option, fallback=None)


def _assigned(file: Path) -> dict[str, Any]:
    """Return what a module assigns to `revision` and `down_revision`."""
    values: dict[str, Any] = {}
    for node in ast.parse(file.read_bytes()).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="revision" | "down_revision" as name)], value=value)
                | ast.AnnAssign(target=ast.Name(id="revision" | "down_revision" as name), value=ast.expr() as value)
            ):
                values[name] = ast.literal_eval(value)
    return values


def _shown(heads: Mapping[str, frozenset[str]]) -> str:
    return ", ".join(f"{table} {'+'.join(sorted(revisions)) or 'nothing'}" for table, revisions in heads.items())


if __name__ == "__main__":
    main()
