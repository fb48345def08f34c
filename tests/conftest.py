"""Settings that have to stand before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile

# Airflow makes its home when it is imported; tests leave the user's alone.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-knative-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ.pop("AIRFLOW__CORE__EXECUTOR", None)
