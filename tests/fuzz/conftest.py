"""Hostile input: the same in every run, or new and more of it with AIRFLOW_KNATIVE_FUZZ_EXAMPLES."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("AIRFLOW_KNATIVE_FUZZ_EXAMPLES", "0"))

settings.register_profile(
    "fuzz",
    derandomize=not EXAMPLES,
    max_examples=EXAMPLES or 150,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # examples are small as they are
    # A process or a server serves many examples, which is what it has to stand.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fuzz")
