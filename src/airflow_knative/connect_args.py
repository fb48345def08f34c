"""How long Airflow's connections to its database bear with a silent server, such as one whose pod or node is gone.

The chart names these for `[database] sql_alchemy_connect_args` and `sql_alchemy_connect_args_async`, and what waits for
the database (`migrations`, `after_database`) keeps to them. Without them the
kernel's own limits hold: two minutes until a connection is given up that nobody takes, a quarter of an hour for a
statement that nobody answers. Airflow's API server asks its database in its event loop, and answers nobody meanwhile.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ASYNCPG", "PSYCOPG2"]

_CONNECT: Final = 5
_SILENCE: Final = 15
_COMMAND: Final = 20

PSYCOPG2: Final[dict[str, Any]] = {
    "connect_timeout": _CONNECT,
    # A statement that takes long is none that is silent: the server's kernel answers for it.
    "keepalives_idle": _SILENCE // 3,
    "keepalives_interval": _SILENCE // 3,
    "keepalives_count": 2,
    "tcp_user_timeout": 1000 * _SILENCE,
}
"""Seconds, and the last one milliseconds; options of libpq."""

ASYNCPG: Final[dict[str, Any]] = {"timeout": _CONNECT, "command_timeout": _COMMAND}
"""Seconds. asyncpg knows nothing of keepalives, so a statement may take so long; those that it carries are short."""
