"""The `[knative]` section of Airflow's configuration, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow.configuration import conf

from airflow_knative.errors import AirflowKnativeError

__all__ = ["ExecutorSettings"]


@dataclass(frozen=True)
class ExecutorSettings:
    """What the executor and its dispatcher go by; times in seconds, sizes in bytes."""

    endpoints: str
    signing_key: Path
    connect_timeout: float
    dispatch_retry_timeout: float
    heartbeat_interval: float
    lost_worker_timeout: float
    max_inline_bytes: int
    max_record_bytes: int
    wakeup: bool
    wakeup_max_wait: float
    prewarm: bool
    prewarm_depth: int
    prewarm_limit: int

    @classmethod
    def from_configuration(cls) -> ExecutorSettings:
        """Read the section.

        Raises:
            AirflowKnativeError: an option is missing or out of range, or two do not go together.
        """
        settings = cls(
            endpoints=_required("endpoints"),
            signing_key=Path(_required("signing_key")),
            connect_timeout=_positive("connect_timeout"),
            dispatch_retry_timeout=_positive("dispatch_retry_timeout"),
            heartbeat_interval=_positive("heartbeat_interval"),
            lost_worker_timeout=_positive("lost_worker_timeout"),
            max_inline_bytes=int(_positive("max_inline_bytes")),
            max_record_bytes=int(_positive("max_record_bytes")),
            wakeup=conf.getboolean("knative", "wakeup"),
            wakeup_max_wait=_positive("wakeup_max_wait"),
            prewarm=conf.getboolean("knative", "prewarm"),
            prewarm_depth=int(_positive("prewarm_depth")),
            prewarm_limit=int(_positive("prewarm_limit")),
        )
        if settings.lost_worker_timeout <= 2 * settings.heartbeat_interval:
            raise AirflowKnativeError(
                f"{_name('lost_worker_timeout')} is {settings.lost_worker_timeout:g} s, and "
                f"{_name('heartbeat_interval')} is {settings.heartbeat_interval:g} s: one heartbeat that is late would "
                "make a task count as lost. Allowed are timeouts of more than twice the interval; raise the one or "
                "lower the other."
            )
        return settings


def _name(option: str) -> str:
    return f"[knative] {option} (AIRFLOW__KNATIVE__{option.upper()})"


def _required(option: str) -> str:
    if not (value := conf.get("knative", option, fallback="")):
        raise AirflowKnativeError(f"{_name(option)} is not set, and KnativeExecutor cannot work without it.")
    return value


def _positive(option: str) -> float:
    text = conf.get("knative", option)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise AirflowKnativeError(f"{_name(option)} is {text!r}; allowed are numbers above 0.")
    return value
