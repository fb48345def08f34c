"""`python -m airflow_knative.worker`."""

from __future__ import annotations

from airflow_knative.worker.main import main

if __name__ == "__main__":
    main()
