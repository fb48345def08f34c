"""Airflow workflows whose tasks run in Knative Services."""

from __future__ import annotations

from airflow_knative._version import __version__

__all__ = ["__version__"]
