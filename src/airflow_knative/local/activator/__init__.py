"""Knative's manners on one machine: workers that start with the first request and stop when there are no more."""

from __future__ import annotations
