"""Length-prefixed frames on the sockets between a worker's own processes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    import socket

__all__ = [
    "CALLER_LOST",
    "END",
    "RUN",
    "STOP",
    "pack_run",
    "read_frame",
    "recv_frame",
    "send_frame",
    "unpack_run",
    "write_frame",
]

_LENGTH: Final = struct.Struct(">I")

# First byte of a frame from the front to a slot.
RUN: Final = b"R"  # see pack_run
CALLER_LOST: Final = b"L"
STOP: Final = b"S"

# An empty frame from a slot: the answer is whole, and the slot is free again.
END: Final = b""

_RUN: Final = struct.Struct(">cd")


def pack_run(received: float, body: bytes) -> bytes:
    """Return the payload that hands a slot a request, which came in at `received` (Unix time in seconds)."""
    return _RUN.pack(RUN, received) + body


def unpack_run(payload: bytes) -> tuple[float, bytes]:
    """Return when a request came in, and its body."""
    _, received = _RUN.unpack_from(payload)
    return received, payload[_RUN.size :]


def send_frame(sock: socket.socket, payload: bytes) -> None:
    """Write one frame to a blocking socket."""
    sock.sendall(_LENGTH.pack(len(payload)) + payload)


def recv_frame(sock: socket.socket) -> bytes | None:
    """Read one frame from a blocking socket; None at its end."""
    header = _recv_exactly(sock, _LENGTH.size)
    return None if header is None else _recv_exactly(sock, _LENGTH.unpack(header)[0])


def _recv_exactly(sock: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        if not (part := sock.recv(min(size - len(parts), 1 << 20))):
            return None
        parts += part
    return bytes(parts)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Read one frame.

    Raises:
        asyncio.IncompleteReadError: the other side is gone.
    """
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(size) if size else b""


def write_frame(writer: asyncio.StreamWriter, payload: bytes) -> None:
    """Queue one frame for writing."""
    writer.write(_LENGTH.pack(len(payload)) + payload)
