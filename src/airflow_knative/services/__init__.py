"""From the DAGs' own settings to the Knative Services that their tasks run in."""

from __future__ import annotations

from airflow_knative.services.inspect import load
from airflow_knative.services.model import KnativeOptions, ServicesError, ServiceSpec
from airflow_knative.services.naming import service_name

__all__ = ["KnativeOptions", "ServiceSpec", "ServicesError", "load", "service_name"]
