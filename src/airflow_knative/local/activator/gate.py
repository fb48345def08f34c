"""How many workers may be starting at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["StartGate"]


class StartGate:
    """Lets a few starts go on at once, the urgent ones first.

    A start is all processor time. Sharing the processors among many starts would make every task wait for the last of
    them; one after the other, the first can begin early.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._order = itertools.count()
        self._waiting: dict[int, tuple[asyncio.Future[None], Callable[[], bool]]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, urgent: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Args:
            urgent: Says, whenever a turn becomes free, whether this one should come before those that are not.
        """
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait(urgent)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, urgent: Callable[[], bool]) -> None:
        number = next(self._order)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, urgent)
        try:
            await future
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is None:
                # The turn came together with the cancellation.
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        number = min(self._waiting, key=lambda key: (not self._waiting[key][1](), key))
        future, _ = self._waiting.pop(number)
        future.set_result(None)
