"""A database that takes connections and says nothing, as seen by the drivers that Airflow has."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import asyncpg
import psycopg2
import pytest

from airflow_knative.connect_args import ASYNCPG, PSYCOPG2

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server on 127.0.0.1 that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_psycopg2_gives_up_a_server_that_is_silent(silent: int) -> None:
    with pytest.raises(psycopg2.OperationalError, match="timeout"):
        psycopg2.connect(host="127.0.0.1", port=silent, sslmode="disable", **PSYCOPG2)


def test_asyncpg_gives_up_a_server_that_is_silent(silent: int) -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(asyncpg.connect(host="127.0.0.1", port=silent, user="x", password="x", ssl=False, **ASYNCPG))
