"""How a call of the dispatcher ends, as the executor learns it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Outcome", "Result"]


class Outcome(StrEnum):
    """What the executor has to tell the scheduler."""

    SETTLED = "settled"
    """The Execution API took the task instance's state, or the task instance is no longer this executor's: nothing."""
    STOPPED = "stopped"
    """It was cleared while it ran and has been stopped: the scheduler may start it again."""
    FAILED = "failed"
    """It did not get to report a state: the scheduler fails it, by its retries and callbacks, with the reason."""


@dataclass(frozen=True)
class Result:
    """The end of a call."""

    outcome: Outcome
    reason: str | None = None
