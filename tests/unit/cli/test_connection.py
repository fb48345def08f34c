from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_knative.cli.connection import connect
from airflow_knative.errors import AirflowKnativeError
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings
from airflow_knative.variables import PASSWORD

if TYPE_CHECKING:
    from pathlib import Path


def nothing(**given: object) -> dict[str, object]:
    return {"gateway_url": None, "airflow_url": None, "user": None, "state": None, **given}


def instance(root: Path) -> None:
    paths = StatePaths(root)
    paths.create()
    LocalSettings(workflows=root, gateway_port=23101, api_port=23102, activator_port=23103).save(paths.settings)
    Secrets.load_or_make(paths, user="root", password="local password")


def test_without_anything_the_demo_login_at_the_usual_ports() -> None:
    found = connect(**nothing())  # type: ignore[arg-type]
    assert (found.gateway_url, found.airflow_url) == ("http://127.0.0.1:8085", "http://127.0.0.1:8080")
    assert (found.user, found.password) == ("admin", "admin")


def test_the_default_state_folder_is_used(tmp_path: Path) -> None:
    instance(tmp_path / "state" / "airflow-knative")
    found = connect(**nothing())  # type: ignore[arg-type]
    assert (found.gateway_url, found.airflow_url) == ("http://127.0.0.1:23101", "http://127.0.0.1:23102")
    assert (found.user, found.password) == ("root", "local password")


def test_another_state_folder(tmp_path: Path) -> None:
    instance(tmp_path / "mine")
    assert connect(**nothing(state=tmp_path / "mine")).gateway_url == "http://127.0.0.1:23101"  # type: ignore[arg-type]


def test_a_state_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(AirflowKnativeError, match="local up"):
        connect(**nothing(state=tmp_path / "nothing"))  # type: ignore[arg-type]


def test_the_local_password_goes_to_no_other_url(tmp_path: Path) -> None:
    instance(tmp_path / "state" / "airflow-knative")
    with pytest.raises(AirflowKnativeError, match="no password"):
        connect(**nothing(gateway_url="https://gateway.example", user="anna"))  # type: ignore[arg-type]


def test_a_url_needs_a_user() -> None:
    with pytest.raises(AirflowKnativeError, match="no user"):
        connect(**nothing(airflow_url="https://airflow.example"))  # type: ignore[arg-type]


def test_a_url_is_completed_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "s3cret")
    found = connect(**nothing(gateway_url="https://gateway.example/", user="anna"))  # type: ignore[arg-type]
    assert (found.gateway_url, found.airflow_url) == ("https://gateway.example", None)
    assert found.password == "s3cret"
    assert "s3cret" not in repr(found)


def test_a_url_without_scheme() -> None:
    with pytest.raises(AirflowKnativeError, match=r"--gateway-url is .gateway\.example.; allowed: a URL"):
        connect(**nothing(gateway_url="gateway.example"))  # type: ignore[arg-type]


def test_state_and_url_contradict(tmp_path: Path) -> None:
    with pytest.raises(AirflowKnativeError, match="leave one of them out"):
        connect(**nothing(gateway_url="http://x", state=tmp_path))  # type: ignore[arg-type]


def test_settings_are_what_this_reads(tmp_path: Path) -> None:
    settings = LocalSettings(workflows=tmp_path)
    assert settings.gateway_url == "http://127.0.0.1:8085"
    assert replace(settings, api_port=1234).api_url == "http://127.0.0.1:1234"
