"""The environment variables by which the command line learns where a gateway and its Airflow are, and as whom to call.

Two more parts know them, in order to leave them alone: the gateway, whose settings have names of the same shape, and
local mode, which passes its caller's environment on to what it starts.
"""

from __future__ import annotations

from typing import Final

__all__ = ["AIRFLOW_URL", "CLIENT_VARIABLES", "GATEWAY_URL", "PASSWORD", "USER"]

GATEWAY_URL: Final = "AIRFLOW_KNATIVE_GATEWAY_URL"
AIRFLOW_URL: Final = "AIRFLOW_KNATIVE_AIRFLOW_URL"
USER: Final = "AIRFLOW_KNATIVE_GATEWAY_USER"
PASSWORD: Final = "AIRFLOW_KNATIVE_GATEWAY_PASSWORD"  # noqa: S105 -- the name of a variable

CLIENT_VARIABLES: Final = frozenset({GATEWAY_URL, AIRFLOW_URL, USER, PASSWORD})
