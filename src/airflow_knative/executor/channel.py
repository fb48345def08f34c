"""The socket between executor and dispatcher: JSON messages, a line each."""

from __future__ import annotations

import contextlib
import json
import select
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

__all__ = ["ADOPT", "DONE", "READY", "RUN", "WAKE", "Channel", "ChannelClosedError", "decode", "encode"]

# What a message's "type" can be. Executor to dispatcher:
RUN: Final = "run"  # call, workload, queued, and knative or, if it cannot be run, trouble
ADOPT: Final = "adopt"  # call, ti, log_path
# Dispatcher to executor:
READY: Final = "ready"
DONE: Final = "done"  # call, outcome, info
WAKE: Final = "wake"

_CHUNK: Final = 1 << 16


class ChannelClosedError(Exception):
    """The other side is gone."""


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Read one line."""
    message: dict[str, Any] = json.loads(line)
    return message


class Channel:
    """The executor's end: never blocks but where it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        """Talk over `sock`."""
        sock.setblocking(False)
        self._sock = sock
        self._outgoing = bytearray()
        self._incoming = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and write what the socket takes."""
        self._outgoing += encode(message)
        self._flush()

    def wait(self, seconds: float) -> None:
        """Block until something can be read, `seconds` at most; write meanwhile what is queued."""
        writable = [self._sock] if self._outgoing else []
        select.select([self._sock], writable, [], seconds)

    def receive(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that are there.

        Raises:
            ChannelClosedError: the dispatcher is gone.
        """
        self._flush()
        closed = False
        with contextlib.suppress(BlockingIOError):
            while chunk := self._recv():
                self._incoming += chunk
            closed = True
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            yield decode(bytes(line))
        if closed:
            raise ChannelClosedError

    def close(self) -> None:
        """Close the socket: the dispatcher ends when it sees this."""
        self._sock.close()

    def _recv(self) -> bytes:
        try:
            return self._sock.recv(_CHUNK)
        except ConnectionError:
            return b""

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._outgoing:
                sent = self._sock.send(self._outgoing)
                del self._outgoing[:sent]
