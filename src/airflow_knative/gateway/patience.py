"""Patience with an Airflow that is away for a moment, as while an upgrade or a drained node replaces its API server."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from starlette.requests import ClientDisconnect

from airflow_knative.gateway.airflow import FaultError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from airflow_knative.gateway.deadlines import Deadlines

__all__ = ["Patience"]

T = TypeVar("T")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_FAULTS: Final = 3
"""Times in a row that Airflow answers 500 until that is taken for a fault of its own: it may have lost its database and
found it again before one could ask."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Takes up again what Airflow did not take, for one call of the gateway.

    Args:
        seconds: For how long, from the first failure of an operation on.
        deadlines: Know when the process is to end, and patience with it.
        until: Time of the event loop's clock when it ends in any case; without one, whoever waits sets the limit.
        hung_up: Tells whether nobody waits for the call's answer any more.
    """

    seconds: float
    deadlines: Deadlines
    until: float | None = None
    hung_up: Callable[[], Awaitable[bool]] | None = None

    async def see_out(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Carry out an operation at Airflow that may be carried out again.

        Raises:
            UnavailableError: Airflow stays away for too long, or is in a way that another try does not mend.
            FaultError: it has a fault of its own.
            ClientDisconnect: the caller hung up meanwhile. They may have called again already, and what is begun for
                them now nobody would expect.
        """
        clock = asyncio.get_running_loop().time
        give_up: float | None = None
        pauses = _pauses()
        faults = 0
        while True:
            try:
                return await operation()
            except (UnavailableError, FaultError) as error:
                faults = faults + 1 if isinstance(error, FaultError) else 0
                if faults == _FAULTS or (isinstance(error, UnavailableError) and not error.again):
                    raise
                pause = _LONGEST_PAUSE / 2 if faults else next(pauses)
                if give_up is None:
                    give_up = self._limit(clock() + self.seconds)
                if clock() + pause > self.deadlines.earlier(give_up):
                    raise
            await asyncio.sleep(pause)
            if self.hung_up is not None and await self.hung_up():
                raise ClientDisconnect

    def _limit(self, when: float) -> float:
        return when if self.until is None else min(when, self.until)


def _pauses() -> Iterator[float]:
    """Yield pauses that grow, and differ, so that an API server is not called by everybody in the moment it is back."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE)
