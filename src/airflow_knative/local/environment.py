"""The environments that parts and workers run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_knative.local.settings import DEFAULT_EXECUTOR, LocalSettings
from airflow_knative.variables import CLIENT_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_knative.local.paths import StatePaths
    from airflow_knative.local.secrets import Secrets

__all__ = ["MARK", "airflow_environment", "gateway_environment", "tool_environment", "worker_environment"]

MARK: Final = "AIRFLOW_KNATIVE_LOCAL_INSTANCE"
"""Variable that marks every process of an instance with the instance's secret token."""

_NEVER_INHERITED: Final = frozenset(
    {
        # Compiled modules make a worker's start twice as fast.
        "PYTHONDONTWRITEBYTECODE",
        "PORT",
        "AIRFLOW_KNATIVE_LOCAL_ADMIN_USER",
        "AIRFLOW_KNATIVE_LOCAL_ADMIN_PASSWORD",
        # They may hold the login of another gateway, such as a cluster's.
        *CLIENT_VARIABLES,
    }
)
_WORKER_INHERITS: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "NO_PROXY",
        "PATH",
        "PYTHONPATH",
        "REQUESTS_CA_BUNDLE",
        "SHELL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TEMP",
        "TMP",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        # Settings of Airflow that change what tasks do and hold nothing secret.
        "AIRFLOW__CORE__DEFAULT_TIMEZONE",
        "AIRFLOW__CORE__XCOM_BACKEND",
        "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES",
        "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES_REGEXP",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_COMPRESSION",
        "AIRFLOW__LOGGING__LOGGING_LEVEL",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS",
    }
)


# How much runs at once is for the services' scales to say. Other executors start that many processes.
_ONE_MACHINE: Final = {
    "AIRFLOW__CORE__PARALLELISM": "128",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "128",
    "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "64",
}


def tool_environment(paths: StatePaths, secrets: Secrets, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The caller's environment, marked as this instance's."""
    # SPT_NOENV: a process that sets its title (setproctitle) would write over the mark.
    inherited = {name: value for name, value in base.items() if name not in _NEVER_INHERITED}
    return {**inherited, **_bytecode(paths), MARK: secrets.instance, "PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}


def airflow_environment(
    paths: StatePaths,
    settings: LocalSettings,
    secrets: Secrets,
    database_url: str,
    base: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of Airflow's own parts.

    The caller's `AIRFLOW__...` variables win over the tuning here, not over what ties the instance together.
    """
    inherited = tool_environment(paths, secrets, base)
    tuning = {
        **(_ONE_MACHINE if settings.executor == DEFAULT_EXECUTOR else {}),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # A changed file is parsed when its time of change shows; only new and removed ones wait for a refresh.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        # A change soon after another would else be dropped, and seen only after the interval above.
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__EXPOSE_CONFIG": "False",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        # What a scheduler that died had queued waits for this look of the next one.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        # The migration has done that.
        "AIRFLOW__FAB__UPDATE_FAB_PERMS": "False",
    }
    fixed = {
        "AIRFLOW_HOME": str(paths.airflow_home),
        "AIRFLOW__CORE__EXECUTOR": settings.executor,
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.workflows),
        "AIRFLOW__CORE__FERNET_KEY": secrets.fernet_key,
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.api_url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(paths.task_logs),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(paths.logs / "dag-files"),
        "AIRFLOW__API__HOST": settings.host,
        "AIRFLOW__API__PORT": str(settings.api_port),
        "AIRFLOW__API__BASE_URL": settings.api_url,
        "AIRFLOW__API__SECRET_KEY": secrets.api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.jwt_secret,
        "AIRFLOW__KNATIVE__ENDPOINTS": paths.endpoints.as_uri(),
        "AIRFLOW__KNATIVE__SIGNING_KEY": str(paths.private_key),
    }
    return {**tuning, **inherited, **fixed}


def gateway_environment(
    paths: StatePaths, settings: LocalSettings, secrets: Secrets, base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The gateway's: it has no credentials of its own, so nothing of Airflow's is in it."""
    inherited = {k: v for k, v in tool_environment(paths, secrets, base).items() if not k.startswith("AIRFLOW__")}
    return {
        **inherited,
        "AIRFLOW_KNATIVE_GATEWAY_HOST": settings.host,
        "AIRFLOW_KNATIVE_GATEWAY_PORT": str(settings.gateway_port),
        "AIRFLOW_KNATIVE_GATEWAY_AIRFLOW_URL": settings.api_url,
    }


def worker_environment(
    paths: StatePaths, settings: LocalSettings, secrets: Secrets, base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What all workers have in common: nothing secret, since the user's code runs there."""
    inherited = {name: value for name, value in base.items() if name in _WORKER_INHERITS or name.startswith("LC_")}
    return {
        **inherited,
        **_bytecode(paths),
        MARK: secrets.instance,
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",
        "AIRFLOW_HOME": str(paths.worker_home),
        # Tells which tasks are other executors'.
        "AIRFLOW__CORE__EXECUTOR": settings.executor,
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.workflows),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.api_url}/execution/",
        # Operators put links to runs into XComs.
        "AIRFLOW__API__BASE_URL": settings.api_url,
        "AIRFLOW_KNATIVE_WORKER_HOST": "127.0.0.1",
        "AIRFLOW_KNATIVE_WORKER_PUBLIC_KEY": str(paths.public_key),
    }


def _bytecode(paths: StatePaths) -> dict[str, str]:
    """Where Python may keep compiled modules: beside them, or in the state folder if the installation is read-only."""
    if os.access(Path(sys.prefix) / "lib", os.W_OK):
        return {}
    return {"PYTHONPYCACHEPREFIX": str(paths.bytecode)}
