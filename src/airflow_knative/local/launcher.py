"""Airflow's own parts started from one process that has imported Airflow: importing is most of what a start costs.

Run as `python -m airflow_knative.local.launcher` in the environment of Airflow's parts. It imports while the database
is still being made. One line of JSON on standard input then says what to do (`Order`). It migrates if that is asked,
forks the parts, writes their pids, and ends: so each part becomes a child of the supervisor, the nearest subreaper.
A part that dies later is started again as any program.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Self

from airflow_knative.local.files import write_atomically
from airflow_knative.local.linux import set_death_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Order", "main"]

_IMPORTS: Final = (
    "airflow.__main__",
    "airflow.api_fastapi.app",
    "airflow.cli.commands.api_server_command",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.providers.fab.auth_manager.fab_auth_manager",
    "setproctitle",
)
_API_IMPORTS: Final = (
    "airflow.api_fastapi.core_api.app",
    "airflow.api_fastapi.core_api.routes.public",
    "airflow.api_fastapi.core_api.routes.ui",
    "airflow.api_fastapi.execution_api.app",
    "airflow.api_fastapi.execution_api.routes",
)
_ADOPTION_TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class Order:
    """What a launcher is to do.

    Attributes:
        parts: Name of each part and the arguments of `airflow` that run it.
        logs: Name of each part and its log file.
        pids: File for the pids of the parts.
        supervisor: Pid of the process that the parts are for.
        admin: Name and password of the administrator if the database is to be brought up to date, else None.
        migration_log: Log file of that.
    """

    parts: Mapping[str, tuple[str, ...]]
    logs: Mapping[str, str]
    pids: str
    supervisor: int
    admin: tuple[str, str] | None
    migration_log: str

    def dump(self) -> str:
        """As the line that the launcher reads."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read such a line."""
        return cls(**json.loads(line))


def main() -> int:
    """Entry point."""
    _import(_IMPORTS)
    line = sys.stdin.readline()
    if not line:
        return 0
    order = Order.parse(line)
    if order.admin is not None:
        user, password = order.admin
        migration = _fork(lambda: _migrate(user, password), Path(order.migration_log))
        # While that goes on, so that the API server need not.
        _import(_API_IMPORTS)
        if code := os.waitstatus_to_exitcode(os.waitpid(migration, 0)[1]):
            return code
    pids = {name: _fork(lambda name=name: _be_part(name, order), Path(order.logs[name])) for name in order.parts}  # type: ignore[misc]
    write_atomically(Path(order.pids), json.dumps(pids))
    return 0


def _import(names: Iterable[str]) -> None:
    """Import modules for good: nothing of them is garbage, so looking for it would be a waste."""
    gc.disable()
    for name in names:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()


def _migrate(user: str, password: str) -> None:
    from airflow_knative.local.bootstrap import bootstrap  # noqa: PLC0415

    # Here instead of at each start of the API server.
    os.environ["AIRFLOW__FAB__UPDATE_FAB_PERMS"] = "True"
    bootstrap(user, password)


def _be_part(name: str, order: Order) -> None:
    os.setsid()
    deadline = time.monotonic() + _ADOPTION_TIMEOUT
    while os.getppid() != order.supervisor:
        if time.monotonic() > deadline:
            raise SystemExit("the supervisor did not take this process over")
        time.sleep(0.005)
    set_death_signal(signal.SIGTERM, order.supervisor)
    arguments = order.parts[name]
    sys.argv = ["airflow", *arguments]
    importlib.import_module("setproctitle").setproctitle(f"airflow {' '.join(arguments)}")
    if name == "api-server":
        _import(_API_IMPORTS)
    importlib.import_module("airflow.__main__").main()


def _fork(work: Callable[[], None], log: Path) -> int:
    """Run a function in a child with its output in a log file; returns the pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(work, log)
    return pid


def _child(work: Callable[[], None], log: Path) -> NoReturn:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (fd, 1), (fd, 2)):
        os.dup2(source, target)
    os.close(fd)
    os.close(null)
    try:
        work()
    except SystemExit as end:
        # As the interpreter itself does it: exit handlers run, other threads are waited for.
        sys.exit(end.code)
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
