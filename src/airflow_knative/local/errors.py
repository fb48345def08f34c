from __future__ import annotations

from airflow_knative.errors import AirflowKnativeError

__all__ = ["LocalError", "NotRunningError", "PartError", "PortTakenError"]


class LocalError(AirflowKnativeError):
    """The local mode cannot do what was asked."""


class NotRunningError(LocalError):
    """Nothing runs in this state folder."""


class PortTakenError(LocalError):
    """Another process listens on a port that is needed."""


class PartError(LocalError):
    """A part (PostgreSQL, the scheduler, a worker, ...) does not start or stay up."""
