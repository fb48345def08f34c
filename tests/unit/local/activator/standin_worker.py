"""A worker of a few milliseconds: what the activator sees of a real one, and what tests make it do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READY_AT = time.monotonic() + float(os.environ.get("READY_AFTER", "0"))
running = 0
stopping = asyncio.Event()


def note(event: str) -> None:
    if path := os.environ.get("EVENTS"):
        with Path(path).open("a") as stream:
            stream.write(json.dumps({"event": event, "pid": os.getpid(), "service": os.environ["K_SERVICE"]}) + "\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def wait_for(path: str) -> None:
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)


async def read_head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    method, path, _ = (await reader.readline()).decode().split(" ", 2)
    headers = {}
    while line := (await reader.readline()).decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return method, path, headers


async def body_chunks(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            yield await reader.readexactly(size)
            await reader.readline()
    elif length := int(headers.get("content-length", "0")):
        yield await reader.readexactly(length)


def answer(writer: asyncio.StreamWriter, status: int, document: object) -> None:
    body = json.dumps(document).encode()
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global running  # noqa: PLW0603
    try:
        _, path, headers = await read_head(reader)
        if path == "/readyz":
            ready = time.monotonic() >= READY_AT and os.environ.get("READY_AFTER") != "never"
            answer(writer, 200 if ready else 503, {})
            return
        if path == "/healthz":
            answer(writer, 200, {"tasks": running})
            return
        running += 1
        note(f"request {path}")
        try:
            await handle(path, headers, reader, writer)
        finally:
            running -= 1
    finally:
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
        if stopping.is_set() and running == 0:
            end()


async def handle(
    path: str, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if path == "/die-early":
        sys.stderr.write("dying early\n")
        sys.stderr.flush()
        os._exit(7)
    if path == "/leave-child":
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)  # noqa: ASYNC251
        os._exit(7)
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-ndjson\r\n\r\n"
    if path == "/hold":
        writer.write(stream + chunk(b"started %d\n" % os.getpid()))
        await writer.drain()
        gone = asyncio.ensure_future(reader.read())
        released = asyncio.ensure_future(wait_for(headers["x-release"]))
        await asyncio.wait((gone, released), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            note("caller gone")
            released.cancel()
            return
        gone.cancel()
        writer.write(chunk(b"done\n") + b"0\r\n\r\n")
    elif path == "/alone":
        writer.write(stream + chunk(b"started %d\n" % os.getpid()))
        await writer.drain()
        await wait_for(headers["x-release"])
    elif path == "/parrot":
        writer.write(stream)
        async for part in body_chunks(reader, headers):
            writer.write(chunk(part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    elif path == "/break-off":
        writer.write(stream + chunk(b"half\n"))
        await writer.drain()
        await wait_for(headers["x-release"])
        os._exit(7)
    else:
        body = b"".join([part async for part in body_chunks(reader, headers)])
        answer(
            writer,
            200,
            {
                "pid": os.getpid(),
                "path": path,
                "headers": headers,
                "body": body.decode(),
                "environment": dict(os.environ),
            },
        )


def end() -> None:
    note("ended")
    os._exit(0)


def on_term() -> None:
    note("asked to end")
    if os.environ.get("IGNORE_TERM"):
        return
    stopping.set()
    if running == 0:
        end()


async def main() -> None:
    note("started")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_term)
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]))
    async with server:
        await server.serve_forever()


if os.environ.get("FAIL"):
    sys.stderr.write("Traceback: the DAG cannot be imported\n")
    sys.exit(3)
asyncio.run(main())
