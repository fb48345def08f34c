"""`python -m airflow_knative.cli`."""

from __future__ import annotations

from airflow_knative.cli import main

if __name__ == "__main__":
    main()
