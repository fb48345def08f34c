"""The one exception of this package."""

from __future__ import annotations

__all__ = ["NodeError"]


class NodeError(Exception):
    """A node, its network or the Docker daemon could not be started or stopped."""
