from __future__ import annotations

from pathlib import Path

import pytest

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.worker.settings import WorkerSettings

GOOD = {
    "K_SERVICE": "airflow-worker-d-t",
    "AIRFLOW_KNATIVE_WORKER_DAG_FILE": "d.py",
    "AIRFLOW_KNATIVE_WORKER_DAG_ID": "d",
    "AIRFLOW_KNATIVE_WORKER_PUBLIC_KEY": "/keys/public.pem",
}


def test_defaults() -> None:
    settings = WorkerSettings.from_environment(GOOD)
    assert settings == WorkerSettings(
        service="airflow-worker-d-t",
        host="0.0.0.0",
        port=8080,
        dag_file="d.py",
        dag_id="d",
        task_id=None,
        slots=1,
        public_key=Path("/keys/public.pem"),
        grace=20.0,
        max_body_bytes=64 * 1024 * 1024,
    )


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(AirflowKnativeError, match=name):
        WorkerSettings.from_environment({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("AIRFLOW_KNATIVE_WORKER_SLOTS", "0"),
        ("AIRFLOW_KNATIVE_WORKER_SLOTS", "1.5"),
        ("AIRFLOW_KNATIVE_WORKER_GRACE", "-1"),
        ("AIRFLOW_KNATIVE_WORKER_GRACE", "inf"),
        ("AIRFLOW_KNATIVE_WORKER_GRACE", "soon"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(AirflowKnativeError, match=f"{name}='{value}' is refused: allowed are"):
        WorkerSettings.from_environment(GOOD | {name: value})


@pytest.mark.parametrize(
    "name",
    [
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
    ],
)
def test_a_worker_refuses_to_hold_airflows_secrets(name: str) -> None:
    with pytest.raises(AirflowKnativeError, match=name) as caught:
        WorkerSettings.from_environment(GOOD | {name: "sesame"})
    assert "sesame" not in str(caught.value)
