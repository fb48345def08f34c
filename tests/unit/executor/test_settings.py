"""The section `[knative]`, read as an executor does at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.executor.settings import ExecutorSettings


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, endpoints="file:///e.json", signing_key="/k.pem")


def _set(monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    for option, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__KNATIVE__{option.upper()}", value)


def test_defaults_go_together() -> None:
    settings = ExecutorSettings.from_configuration()
    assert settings.signing_key == Path("/k.pem")
    assert settings.lost_worker_timeout > 2 * settings.heartbeat_interval


@pytest.mark.parametrize("option", ["endpoints", "signing_key"])
def test_what_is_required_is_named(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.delenv(f"AIRFLOW__KNATIVE__{option.upper()}")
    with pytest.raises(AirflowKnativeError, match=rf"\[knative\] {option} .* is not set"):
        ExecutorSettings.from_configuration()


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_what_is_out_of_range_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    _set(monkeypatch, connect_timeout=value)
    with pytest.raises(AirflowKnativeError, match=rf"\[knative\] connect_timeout .* is '{value}'; allowed are numbers"):
        ExecutorSettings.from_configuration()


@pytest.mark.parametrize(("interval", "timeout"), [("15", "30"), ("60", "30")])
def test_a_worker_may_miss_a_heartbeat(monkeypatch: pytest.MonkeyPatch, interval: str, timeout: str) -> None:
    _set(monkeypatch, heartbeat_interval=interval, lost_worker_timeout=timeout)
    with pytest.raises(AirflowKnativeError) as caught:
        ExecutorSettings.from_configuration()
    assert f"lost_worker_timeout (AIRFLOW__KNATIVE__LOST_WORKER_TIMEOUT) is {timeout} s" in str(caught.value)
    assert f"heartbeat_interval (AIRFLOW__KNATIVE__HEARTBEAT_INTERVAL) is {interval} s" in str(caught.value)
    assert "raise the one or lower the other" in str(caught.value)


def test_a_timeout_beyond_twice_the_interval_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, heartbeat_interval="14.9", lost_worker_timeout="30")
    assert ExecutorSettings.from_configuration().heartbeat_interval == 14.9
