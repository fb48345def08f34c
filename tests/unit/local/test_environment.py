from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_knative.gateway.settings import Settings
from airflow_knative.local.environment import (
    airflow_environment,
    gateway_environment,
    tool_environment,
    worker_environment,
)
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings
from airflow_knative.variables import CLIENT_VARIABLES

if TYPE_CHECKING:
    from pathlib import Path

CALLER = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "AWS_SECRET_ACCESS_KEY": "k",
    "AIRFLOW_CONN_SHOP": "http://u:p@shop",
    "AIRFLOW_VAR_KEY": "v",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:///mine.db",
    "AIRFLOW__CORE__FERNET_KEY": "mine",
    "AIRFLOW__CORE__XCOM_BACKEND": "my.Backend",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "7",
    "AIRFLOW_KNATIVE_LOCAL_ADMIN_PASSWORD": "pw",
    "AIRFLOW_KNATIVE_GATEWAY_URL": "https://gateway.example",
    "AIRFLOW_KNATIVE_GATEWAY_USER": "anna",
    "AIRFLOW_KNATIVE_GATEWAY_PASSWORD": "of-the-cluster",
    "AIRFLOW_KNATIVE_AIRFLOW_URL": "https://airflow.example",
    "AIRFLOW_KNATIVE_GATEWAY_GRACE": "5",
}


@pytest.fixture
def secrets() -> Secrets:
    return Secrets.make()


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(workflows=tmp_path)


def test_a_worker_has_no_secret_and_no_database(paths: StatePaths, settings: LocalSettings, secrets: Secrets) -> None:
    environment = worker_environment(paths, settings, secrets, CALLER)
    assert not [name for name in environment if name.startswith(("AIRFLOW__DATABASE", "AIRFLOW_CONN", "AIRFLOW_VAR"))]
    text = "\n".join(environment.values())
    for secret in (secrets.database_password, secrets.fernet_key, secrets.jwt_secret, secrets.admin_password + "!"):
        assert secret not in text
    assert {"AWS_SECRET_ACCESS_KEY", "AIRFLOW__CORE__FERNET_KEY"} & set(environment) == set()
    assert environment["AIRFLOW_HOME"] != str(paths.airflow_home)


def test_a_worker_keeps_what_tasks_need(paths: StatePaths, settings: LocalSettings, secrets: Secrets) -> None:
    environment = worker_environment(paths, settings, secrets, CALLER)
    assert environment["PATH"] == "/bin"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["AIRFLOW__CORE__XCOM_BACKEND"] == "my.Backend"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8080/execution/"
    # For links to runs in XComs, and for telling which tasks are other executors'.
    assert environment["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8080"
    assert environment["AIRFLOW__CORE__EXECUTOR"] == settings.executor


def test_airflow_gets_the_instances_own_database_and_the_callers_tuning(
    paths: StatePaths, settings: LocalSettings, secrets: Secrets
) -> None:
    environment = airflow_environment(paths, settings, secrets, "postgresql://here", CALLER)
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql://here"
    assert environment["AIRFLOW__CORE__FERNET_KEY"] == secrets.fernet_key
    assert environment["AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL"] == "7"
    assert environment["AIRFLOW_CONN_SHOP"] == "http://u:p@shop"
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "airflow_knative.executor.KnativeExecutor"
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert "AIRFLOW_KNATIVE_LOCAL_ADMIN_PASSWORD" not in environment


def test_a_dag_that_changes_twice_in_a_row_is_not_left_as_it_was(
    paths: StatePaths, settings: LocalSettings, secrets: Secrets
) -> None:
    environment = airflow_environment(paths, settings, secrets, "postgresql://here", {})
    assert environment["AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL"] == "0"


def test_another_executor_keeps_airflows_own_limits(paths: StatePaths, secrets: Secrets, tmp_path: Path) -> None:
    settings = LocalSettings(workflows=tmp_path, executor="LocalExecutor")
    environment = airflow_environment(paths, settings, secrets, "postgresql://here", CALLER)
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "AIRFLOW__CORE__PARALLELISM" not in environment


def test_the_gateway_has_no_credentials(paths: StatePaths, settings: LocalSettings, secrets: Secrets) -> None:
    environment = gateway_environment(paths, settings, secrets, CALLER)
    assert not [name for name in environment if name.startswith("AIRFLOW__")]
    assert environment["AIRFLOW_KNATIVE_GATEWAY_AIRFLOW_URL"] == "http://127.0.0.1:8080"


def test_the_login_at_another_gateway_reaches_no_part(
    paths: StatePaths, settings: LocalSettings, secrets: Secrets
) -> None:
    of_the_gateway = gateway_environment(paths, settings, secrets, CALLER)
    for environment in (
        tool_environment(paths, secrets, CALLER),
        airflow_environment(paths, settings, secrets, "postgresql://here", CALLER),
        of_the_gateway,
        worker_environment(paths, settings, secrets, CALLER),
    ):
        assert not CLIENT_VARIABLES & set(environment)
        assert "of-the-cluster" not in environment.values()
    # What tunes the gateway still does.
    assert Settings.from_environ(of_the_gateway).grace == 5
