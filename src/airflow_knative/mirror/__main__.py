"""``python -m airflow_knative.mirror``: the same commands as ``airflow-knative mirror``."""

from __future__ import annotations

import sys

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.mirror.cli import app

if __name__ == "__main__":
    try:
        app(prog_name="airflow-knative mirror")
    except AirflowKnativeError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 # the command line's own output
        sys.exit(1)
