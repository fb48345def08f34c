"""The Prefer header of RFC 7240, as far as the gateway takes it up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Preferences", "parse_prefer"]

_WAIT: Final = re.compile(r'"?([0-9]{1,9})"?')


class Preferences(NamedTuple):
    """What a caller prefers.

    With `respond_async` the answer comes at once, or after `wait` seconds, even if the run has not ended. With `wait`
    alone the call waits for so many seconds.
    """

    respond_async: bool
    wait: int | None

    def applied(self) -> str | None:
        """Return the Preference-Applied header of the answer, None when nothing was preferred."""
        names = ["respond-async"] if self.respond_async else []
        if self.wait is not None:
            names.append(f"wait={self.wait}")
        return ", ".join(names) or None


def parse_prefer(values: Iterable[str]) -> Preferences:
    """Read the values of all Prefer headers. What is unknown or malformed counts as not said (RFC 7240, section 2)."""
    respond_async = False
    wait: int | None = None
    for value in values:
        for preference in value.split(","):
            name, _, argument = preference.split(";")[0].partition("=")
            name = name.strip().lower()
            if name == "respond-async":
                respond_async = True
            elif name == "wait" and wait is None and (match := _WAIT.fullmatch(argument.strip())):
                wait = int(match[1])
    return Preferences(respond_async, wait)
