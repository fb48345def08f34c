"""The gateway: one HTTP call is one workflow run, carried out with the caller's own rights at Airflow."""

from __future__ import annotations

from airflow_knative.gateway.app import create_app
from airflow_knative.gateway.settings import Settings, SettingsError

__all__ = ["Settings", "SettingsError", "create_app"]
