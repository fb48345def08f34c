"""The front's view of the slots: which are there, which are free."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from airflow_knative.worker import frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["READY", "SPAWN", "Slot", "SlotPool"]

# Words on the socket between the front and the main process.
SPAWN: Final = b"+"  # front: fork one more slot
READY: Final = b"!"  # main: the DAG is imported

_REMEMBERED: Final = 10_000


class Slot:
    """One slot process, seen from the front."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to the slot on its socket."""
        self._reader = reader
        self._writer = writer
        self._lost = False

    @property
    def is_alive(self) -> bool:
        """Whether the process is still there, as far as its socket tells."""
        return not self._lost and not self._reader.at_eof()

    async def run(self, received: float, body: bytes) -> AsyncIterator[bytes]:
        """Hand over a request and yield the lines of its answer; look at `is_alive` afterwards."""
        frames.write_frame(self._writer, frames.pack_run(received, body))
        try:
            await self._writer.drain()
            while (line := await frames.read_frame(self._reader)) != frames.END:
                yield line
        except (asyncio.IncompleteReadError, OSError):
            self._lost = True

    def tell(self, word: bytes) -> None:
        """Send `frames.CALLER_LOST` or `frames.STOP`."""
        if self.is_alive:
            frames.write_frame(self._writer, word)

    def close(self) -> None:
        """Let go of the slot: it ends when it sees this."""
        self._writer.close()


class SlotPool:
    """Hands out at most `size` slots at once, forked when they are first needed."""

    def __init__(self, control: socket.socket, size: int) -> None:
        """Have slots forked over `control`, the socket to the main process."""
        self._control = control
        self._size = size
        self._free: asyncio.Queue[Slot] = asyncio.Queue()
        self._forked = 0
        self._taken = 0
        self._busy: set[Slot] = set()
        self._orphans: set[Slot] = set()
        """Busy with a task whose caller is gone: whoever routes requests takes such a slot for free."""
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._seen: OrderedDict[tuple[str, int, str], None] = OrderedDict()
        self.served = 0

    @property
    def is_ready(self) -> bool:
        """Whether the DAG is imported."""
        return self._ready.is_set()

    @property
    def is_full(self) -> bool:
        """Whether every slot is taken; as many tasks again may go on without a caller."""
        return self._taken + max(0, len(self._orphans) - self._size) >= self._size

    @property
    def running(self) -> int:
        """How many tasks run, those without a caller included."""
        return len(self._busy)

    async def idle(self) -> None:
        """Wait until no task runs."""
        while self._busy:
            self._ended.clear()
            await self._ended.wait()

    def claim(self, key: tuple[str, int, str]) -> bool:
        """Whether this turn of a task instance is new here; it is not the next time."""
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def forget(self, key: tuple[str, int, str]) -> None:
        """Take a claim back: its request was not handed to a slot."""
        self._seen.pop(key, None)

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Take a slot, waiting for the DAG's import; the caller has looked at `is_full`."""
        self._taken += 1
        try:
            await self._ready.wait()
            slot = await self._next()
        except BaseException:
            self._taken -= 1
            raise
        self._busy.add(slot)
        try:
            yield slot
        finally:
            self._busy.discard(slot)
            self._ended.set()
            if slot in self._orphans:
                self._orphans.discard(slot)
            else:
                self._taken -= 1
            if self._forked > self._size + len(self._orphans):
                self._drop(slot)
            else:
                self._free.put_nowait(slot)

    def lose_caller(self, slot: Slot) -> None:
        """Have the task in `slot` go on by itself, and no longer count against those that have a caller."""
        if slot in self._busy and slot not in self._orphans:
            slot.tell(frames.CALLER_LOST)
            self._orphans.add(slot)
            self._taken -= 1

    def stop(self) -> None:
        """Have every running task ended."""
        for slot in self._busy:
            slot.tell(frames.STOP)

    async def listen(self) -> None:
        """Take in what the main process says, until it is gone."""
        loop = asyncio.get_running_loop()
        self._control.setblocking(False)
        while True:
            await _readable(loop, self._control)
            word, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            if not word:
                return
            if word == READY:
                self._ready.set()
                if self._forked == 0:  # the first request should find one
                    self._fork()
            for descriptor in descriptors:
                reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
                self._free.put_nowait(Slot(reader, writer))

    async def _next(self) -> Slot:
        while True:
            if self._free.empty() and self._forked < self._size + len(self._orphans):
                self._fork()
            slot = await self._free.get()
            if slot.is_alive:
                return slot
            self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        slot.close()
        self._forked -= 1

    def _fork(self) -> None:
        self._forked += 1
        self._control.send(SPAWN)


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    seen = asyncio.Event()
    loop.add_reader(sock.fileno(), seen.set)
    try:
        await seen.wait()
    finally:
        loop.remove_reader(sock.fileno())
