from __future__ import annotations

from airflow_knative.local.errors import LocalError

__all__ = ["QueueFullError", "RetiredError", "StartError", "StartTimeoutError"]


class QueueFullError(LocalError):
    """As many requests as allowed wait for a worker of this service."""


class RetiredError(LocalError):
    """The service is gone, or all of it is being stopped."""


class StartError(LocalError):
    """A worker ended before it was ready.

    Attributes:
        output: The last lines that it wrote.
        by_signal: Whether it did not end by itself.
    """

    def __init__(self, message: str, output: str = "", *, by_signal: bool = False) -> None:
        super().__init__(message)
        self.output = output
        self.by_signal = by_signal


class StartTimeoutError(StartError):
    """A worker was not ready in time."""
