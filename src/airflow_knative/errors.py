"""The root of this package's exceptions."""

from __future__ import annotations

__all__ = ["AirflowKnativeError"]


class AirflowKnativeError(Exception):
    """Something a user can act on: the message says what happened, where, and what to do next."""
