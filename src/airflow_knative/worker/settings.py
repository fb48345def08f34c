"""A worker's settings, all from the environment, as a Knative Service has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["WorkerSettings"]

_PREFIX: Final = "AIRFLOW_KNATIVE_WORKER_"
_T = TypeVar("_T")

_FORBIDDEN: Final = (
    "AIRFLOW__DATABASE__",
    "AIRFLOW__CORE__SQL_ALCHEMY",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API_AUTH__",
    "AIRFLOW__API__SECRET_KEY",
)


@dataclass(frozen=True)
class WorkerSettings:
    """What one worker serves, and how."""

    service: str
    """Name of the Knative Service: the audience of the requests it accepts."""
    host: str
    port: int
    dag_file: str
    """Relative to the dags folder."""
    dag_id: str
    task_id: str | None
    """None serves every task of the DAG."""
    slots: int
    """Task instances at once: the service's containerConcurrency."""
    public_key: Path
    grace: float
    """Seconds that running tasks have to finish after SIGTERM; they are ended then, which takes 10 s at most."""
    max_body_bytes: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> WorkerSettings:
        """Read the settings.

        Raises:
            AirflowKnativeError: a variable is missing or wrong, or one that a worker must not have is there.
        """
        if present := sorted(name for name in environ if name.startswith(_FORBIDDEN)):
            raise AirflowKnativeError(
                f"A worker runs user code and must hold no secret of Airflow's, but its environment has "
                f"{', '.join(present)}. Remove these variables from the service."
            )
        return cls(
            service=_get(environ, "K_SERVICE", str),
            host=_get(environ, _PREFIX + "HOST", str, "0.0.0.0"),
            port=_get(environ, "PORT", _port, "8080"),
            dag_file=_get(environ, _PREFIX + "DAG_FILE", str),
            dag_id=_get(environ, _PREFIX + "DAG_ID", str),
            task_id=environ.get(_PREFIX + "TASK_ID") or None,
            slots=_get(environ, _PREFIX + "SLOTS", _positive, "1"),
            public_key=_get(environ, _PREFIX + "PUBLIC_KEY", Path),
            grace=_get(environ, _PREFIX + "GRACE", _seconds, "20"),
            max_body_bytes=_get(environ, _PREFIX + "MAX_BODY_BYTES", _positive, str(64 * 1024 * 1024)),
        )


def _get(environ: Mapping[str, str], name: str, parse: Callable[[str], _T], default: str | None = None) -> _T:
    text = environ.get(name) or default
    if text is None:
        raise AirflowKnativeError(f"The worker needs the environment variable {name}, which is not set.")
    try:
        return parse(text)
    except ValueError as error:
        raise AirflowKnativeError(f"{name}={text!r} is refused: {error}.") from error


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise ValueError("allowed are whole numbers from 1")
    return number


def _port(text: str) -> int:
    number = _positive(text)
    if number > 65535:  # noqa: PLR2004
        raise ValueError("allowed are ports from 1 to 65535")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError("allowed are seconds, 0 or more")
    return number
