"""`python -m airflow_knative.worker`."""

from __future__ import annotations

import gc

gc.disable()  # what imports make stays: looking through it again and again is a quarter of a start

from airflow_knative.worker.main import main  # noqa: E402

if __name__ == "__main__":
    main()
