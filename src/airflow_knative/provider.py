"""What Airflow's provider manager learns about this package."""

from __future__ import annotations

from typing import Any

from airflow_knative._version import __version__

__all__ = ["get_cli_commands", "get_provider_info"]


def _option(kind: str, default: str, description: str, example: str | None = None) -> dict[str, Any]:
    return {
        "type": kind,
        "default": default,
        "description": description,
        "example": example,
        "version_added": "0.1.0",
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "endpoints": _option(
        "string",
        "",
        "Where the executor learns which Knative Service runs which task. `kubernetes:` watches the Knative Services "
        "of the scheduler's own namespace by the annotations `airflow-knative/dag-id` and `airflow-knative/task-id`, "
        "`kubernetes://name` those of another one; the pod's service account needs get, list and watch on them. "
        "`file:///path` is a JSON file that is read again whenever it changes.",
        "kubernetes:",
    ),
    "signing_key": _option(
        "string",
        "",
        "Path of the PEM file with the Ed25519 private key that signs requests to workers. Workers hold only the "
        "public half. `airflow-knative keys generate` makes a pair.",
        "/opt/airflow/secrets/signing-key.pem",
    ),
    "connect_timeout": _option("float", "10.0", "Seconds to wait for a connection to a service.", "5.0"),
    "dispatch_retry_timeout": _option(
        "float",
        "120.0",
        "Seconds during which a request that surely did not start (connection refused, 503 before acceptance, no "
        "endpoint known yet) is tried again with backoff and jitter, before the task instance fails with the reason. A "
        "service that holds a request for longer, because no worker of it starts, has twice its own timeout.",
        "300.0",
    ),
    "heartbeat_interval": _option(
        "float",
        "5.0",
        "Seconds between heartbeats of a running task instance; also how soon a task instance that was marked failed, "
        "cleared or deleted is stopped. Must be well below `[scheduler] task_instance_heartbeat_timeout`.",
        "2.0",
    ),
    "lost_worker_timeout": _option(
        "float",
        "30.0",
        "Seconds without a heartbeat after which a task instance whose answer broke off without an end is failed. A "
        "worker that lost its caller reports to the Execution API by itself meanwhile, every `[workers] "
        "min_heartbeat_interval` seconds: this must be more than twice as much, and more than twice the "
        "`heartbeat_interval`.",
        "60.0",
    ),
    "max_inline_bytes": _option(
        "integer",
        "4194304",
        "Bytes of XComs that travel in a request; what does not fit is read by the worker from the Execution API.",
        "1048576",
    ),
    "max_record_bytes": _option(
        "integer",
        "67108864",
        "Bytes of one record in a worker's answer; a larger one fails the task instance.",
        "16777216",
    ),
    "wakeup": _option(
        "boolean",
        "True",
        "Wake the scheduler's loop when a task ends and, on PostgreSQL with the trigger of `airflow-knative wakeup "
        "install`, when a dag run is created. Elsewhere and when off, the scheduler's own idle sleep applies.",
        "False",
    ),
    "wakeup_max_wait": _option(
        "float",
        "1.0",
        "Seconds that an idle scheduler loop waits at most for a wake-up before it looks by itself.",
        "0.5",
    ),
    "prewarm": _option(
        "boolean",
        "True",
        "Start the services of tasks that come next while the tasks before them run, so that cold starts overlap. Only "
        "tasks that will run for sure count: none behind a branch, a short circuit or a sensor that has not ended.",
        "False",
    ),
    "prewarm_depth": _option(
        "integer", "2", "How many steps ahead of the tasks that run the services of tasks are started.", "1"
    ),
    "prewarm_limit": _option(
        "integer",
        "10",
        "How many services are started ahead at once, over all runs; a fan-out counts once for each of its tasks.",
        "4",
    ),
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form of Airflow's `provider.yaml.schema.json`."""
    return {
        "package-name": "airflow-knative",
        "name": "Knative",
        "description": "Runs each task of a DAG in its own Knative Service.",
        "versions": [__version__],
        "cli": [f"{__name__}.get_cli_commands"],
        "executors": ["airflow_knative.executor.KnativeExecutor"],
        "config": {"knative": {"description": "Settings of KnativeExecutor.", "options": _OPTIONS}},
    }


def get_cli_commands() -> list[Any]:
    """Return what this package adds to the command `airflow`: nothing, it has one of its own.

    Without this function every `airflow` command would import the executor to ask it, and warn.
    """
    return []
