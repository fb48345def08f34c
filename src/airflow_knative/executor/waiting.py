"""How often a request is sent again that no worker takes, and for how long."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["Waiting"]

_FIRST_DELAY: Final = 0.05  # seconds; doubles up to the last
_LAST_DELAY: Final = 5.0
_MOST_HELD: Final = 1.5  # times a service's timeout: the second request that it holds for as long is the last


class Waiting:
    """The patience of one call.

    It counts the seconds that requests and the pauses between them take, and nothing else: while the database is away,
    none are lost. A service at zero holds a request until it has a worker, which may be longer than the patience for
    failures that come at once: such requests have a measure of their own.
    """

    def __init__(self, patience: float) -> None:
        """Bear with `patience` seconds of failures."""
        self._patience = patience
        self._delay = _FIRST_DELAY
        self._spent = 0.0
        self.held = 0.0
        """Seconds for which the service has held requests in vain, if it was longer than the patience each time."""
        self.is_new = True
        """Whether nothing has failed yet."""

    def is_long(self, took: float) -> bool:
        """Whether a request that took so many seconds was held by the service."""
        return took > self._patience

    def begin_anew(self) -> None:
        """Forget what failed: it is known that all this call has to do is to wait."""
        self._spent = self.held = 0.0

    def next(self, took: float, *, timeout: float) -> float | None:
        """Return the seconds until the next request, None if there is to be none.

        Args:
            took: seconds that the last one took.
            timeout: seconds after which its service lets go of a request.
        """
        if self.is_long(took):
            self._spent = 0.0
            self.held += took
            if self.held >= _MOST_HELD * timeout:
                return None
        pause = self._delay * random.uniform(0.5, 1.5)  # noqa: S311
        self._spent += pause if self.is_long(took) else took + pause
        if self._spent > self._patience:
            return None
        self._delay = min(self._delay * 2, _LAST_DELAY)
        self.is_new = False
        return pause
