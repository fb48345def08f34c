"""Airflow with this executor, its workers and the gateway, all on one machine."""

from __future__ import annotations
