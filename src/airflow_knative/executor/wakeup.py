"""PostgreSQL tells the scheduler that there is something to schedule.

A trigger on Airflow's tables notifies a channel; the dispatcher listens to it and wakes the scheduler's loop. On other
databases, or without the trigger, the scheduler finds out by itself within `[knative] wakeup_max_wait` seconds.

    python -m airflow_knative.executor.wakeup install|remove|status
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from airflow import settings
from psycopg2 import Error as PsycopgError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

__all__ = ["install", "listen", "remove", "status"]

log = logging.getLogger(__name__)

_CHANNEL: Final = "airflow_knative_wakeup"
_RETRY: Final = 5.0  # seconds before a lost connection is made again

# What makes work for the scheduler and does not come from it: runs made or cleared, deferred tasks resumed.
_TRIGGERS: Final = {
    f"{_CHANNEL}_run_made": ("dag_run", "AFTER INSERT ON dag_run FOR EACH STATEMENT"),
    f"{_CHANNEL}_run_cleared": (
        "dag_run",
        (
            "AFTER UPDATE OF state ON dag_run FOR EACH ROW "
            "WHEN (NEW.state = 'queued' AND OLD.state IS DISTINCT FROM NEW.state)"
        ),
    ),
    f"{_CHANNEL}_task_resumed": (
        "task_instance",
        (
            "AFTER UPDATE OF state ON task_instance FOR EACH ROW "
            "WHEN (OLD.state IN ('deferred', 'awaiting_input') AND NEW.state = 'scheduled')"
        ),
    ),
}
_FUNCTION: Final = f"""
CREATE OR REPLACE FUNCTION {_CHANNEL}() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('{_CHANNEL}', ''); RETURN NULL; END $$
"""


def _engine() -> Engine:
    if settings.engine is None:
        settings.configure_orm()
    return cast("Engine", settings.engine)


def _postgresql() -> Engine:
    engine = _engine()
    if engine.dialect.name != "postgresql":
        raise AirflowKnativeError(
            f"The wake-up needs PostgreSQL; [database] sql_alchemy_conn names {engine.dialect.name}. There the "
            "scheduler looks by itself every [knative] wakeup_max_wait seconds, and nothing has to be installed."
        )
    return engine


def install() -> None:
    """Install the triggers in Airflow's database, in place of any that are there.

    Raises:
        AirflowKnativeError: the database is not PostgreSQL.
    """
    with _postgresql().begin() as connection:
        # Two schedulers may start at once, and CREATE OR REPLACE takes no lock of its own.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": _CHANNEL})
        connection.execute(text(_FUNCTION))
        for name, (_, when) in _TRIGGERS.items():
            connection.execute(text(f"CREATE OR REPLACE TRIGGER {name} {when} EXECUTE FUNCTION {_CHANNEL}()"))


def remove() -> None:
    """Remove the triggers, if they are there.

    Raises:
        AirflowKnativeError: the database is not PostgreSQL.
    """
    with _postgresql().begin() as connection:
        for name, (table, _) in _TRIGGERS.items():
            connection.execute(text(f"DROP TRIGGER IF EXISTS {name} ON {table}"))
        connection.execute(text(f"DROP FUNCTION IF EXISTS {_CHANNEL}()"))


def status() -> bool:
    """Return whether every trigger is installed and enabled.

    Raises:
        AirflowKnativeError: the database is not PostgreSQL.
    """
    with _postgresql().connect() as connection:
        found = connection.execute(
            text("SELECT tgname FROM pg_trigger WHERE tgname = ANY(:names) AND tgenabled <> 'D'"),
            {"names": list(_TRIGGERS)},
        ).scalars()
        return set(found) == set(_TRIGGERS)


async def listen(on_wake: Callable[[], None]) -> None:
    """Call `on_wake` at each notification, for ever; return at once where there can be none."""
    if _engine().dialect.driver != "psycopg2":
        return
    while True:
        try:
            await _listen_once(on_wake)
        except (DBAPIError, PsycopgError) as error:
            log.warning("Listening for wake-ups was interrupted: %s", error)
        await asyncio.sleep(_RETRY)


async def _listen_once(on_wake: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    connection: Any = await loop.run_in_executor(None, _engine().connect)
    with contextlib.closing(connection):
        connection.detach()  # from the pool, which would hand it on in the state it gets here
        raw = connection.connection.dbapi_connection
        raw.rollback()
        raw.autocommit = True
        with raw.cursor() as cursor:
            cursor.execute(f"LISTEN {_CHANNEL}")
        readable = asyncio.Event()
        descriptor = raw.fileno()
        loop.add_reader(descriptor, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                raw.poll()
                if raw.notifies:
                    raw.notifies.clear()
                    on_wake()
        finally:
            loop.remove_reader(descriptor)


def main(arguments: list[str]) -> int:
    """Run one of the commands; return the exit code."""
    try:
        match arguments:
            case ["install"]:
                install()
            case ["remove"]:
                remove()
            case ["status"]:
                installed = status()
                print("installed" if installed else "not installed")  # noqa: T201
                return 0 if installed else 1
            case _:
                print((__doc__ or "").strip())  # noqa: T201
                return 2
    except AirflowKnativeError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
