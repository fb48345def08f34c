"""What can be wrong with a message between dispatcher and worker."""

from __future__ import annotations

from airflow_knative.errors import AirflowKnativeError

__all__ = ["SignatureRefusedError", "UnsupportedVersionError", "WireError"]


class WireError(AirflowKnativeError):
    """A request or a record does not follow the contract."""


class UnsupportedVersionError(WireError):
    """The other side speaks a protocol version that this one does not know."""


class SignatureRefusedError(WireError):
    """A request is not signed, or not by the executor, or not for this service, this body or this moment."""
