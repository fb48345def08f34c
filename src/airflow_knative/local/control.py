"""The supervisor's Unix socket: one JSON request a connection, answered by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.local.errors import NotRunningError
from airflow_knative.local.files import short_socket_path

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Control", "call", "follow", "unix_listener"]

_LIMIT: Final = 1 << 20
Handler = Callable[[dict[str, Any]], AsyncIterator[dict[str, Any]]]


def unix_listener(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner can connect to, in place of any old one."""
    path.unlink(missing_ok=True)
    short, fd = short_socket_path(path)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(short)
        path.chmod(0o600)
        listener.listen(64)
        listener.setblocking(False)
    finally:
        if fd is not None:
            os.close(fd)
    return listener


class Control:
    """Answers the requests of the command line."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, sock=unix_listener(self._path), limit=_LIMIT)

    async def stop(self) -> None:
        """Listen no more; answers under way go on."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                request = json.loads(await reader.readline())
                async for answer in self._handler(request):
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
            finally:
                writer.close()


def follow(path: Path, command: str, *, timeout: float | None = None, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Send a request and yield the answers as they come.

    Args:
        path: The supervisor's socket.
        command: What to do.
        timeout: Seconds to wait for each answer, None without end.
        arguments: What the command needs.

    Raises:
        NotRunningError: Nobody listens there, or the supervisor ends before it has answered.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            short, fd = short_socket_path(path)
            try:
                connection.connect(short)
            finally:
                if fd is not None:
                    os.close(fd)
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    yield json.loads(line)
        except (FileNotFoundError, ConnectionError, TimeoutError, NotADirectoryError) as error:
            raise NotRunningError(
                f"nothing answers at {path} ({error}); start it with `airflow-knative local up`"
            ) from None


def call(path: Path, command: str, *, timeout: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """Send a request and take the first answer.

    Raises:
        NotRunningError: There is none.
    """
    for answer in follow(path, command, timeout=timeout, **arguments):
        return answer
    raise NotRunningError(f"the supervisor at {path} ended without an answer; see supervisor.log")
