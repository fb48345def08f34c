"""How long calls may wait: their own limit, and the end of the process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Deadlines"]


class Deadlines:
    """The deadlines of all calls that wait, which move forward when the process is told to end."""

    def __init__(self) -> None:
        self._active: set[asyncio.Timeout] = set()
        self._drain_at: float | None = None

    @property
    def draining(self) -> bool:
        """Whether the process is about to end."""
        return self._drain_at is not None

    def drain(self, grace: float) -> None:
        """Let every wait, those to come included, end within `grace` seconds. To be called in the event loop."""
        if self._drain_at is not None:
            return
        self._drain_at = asyncio.get_running_loop().time() + grace
        for timeout in self._active:
            timeout.reschedule(self._drain_at if (when := timeout.when()) is None else self.earlier(when))

    @asynccontextmanager
    async def until(self, when: float) -> AsyncIterator[None]:
        """Raise TimeoutError if the body is not done at that time of the event loop's clock."""
        async with asyncio.timeout_at(self.earlier(when)) as timeout:
            self._active.add(timeout)
            try:
                yield
            finally:
                self._active.discard(timeout)

    def earlier(self, when: float) -> float:
        """Return this time of the event loop's clock, or the end of the process if that comes first."""
        return when if self._drain_at is None else min(when, self._drain_at)
