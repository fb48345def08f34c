"""What can go wrong while a mirror is filled, checked or served."""

from __future__ import annotations

from airflow_knative.errors import AirflowKnativeError

__all__ = ["ChecksumError", "MirrorError", "PinError"]


class MirrorError(AirflowKnativeError):
    """A part of the mirror could not be made, read or served."""


class PinError(MirrorError):
    """The file of pins says something that cannot be."""


class ChecksumError(MirrorError):
    """Bytes are not the ones that were expected."""
