from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.gateway.settings import PREFIX, Settings, SettingsError, _shown
from airflow_knative.variables import CLIENT_VARIABLES

URL = {PREFIX + "AIRFLOW_URL": "http://airflow:8080"}


def test_defaults() -> None:
    settings = Settings.from_environ(URL)
    assert (settings.port, settings.unpause, settings.max_concurrency) == (8080, True, 100)


def test_values_are_read() -> None:
    values = {"PORT": "9000", "UNPAUSE": "false", "WAIT_TIMEOUT": "1.5", "AIRFLOW_URL": "https://host/airflow/"}
    settings = Settings.from_environ({PREFIX + name: value for name, value in values.items()})
    assert (settings.port, settings.unpause, settings.wait_timeout) == (9000, False, 1.5)
    assert settings.airflow_url == "https://host/airflow"


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({"PORT": "9001"}, 9001),
        ({"PORT": "9001", PREFIX + "PORT": "9002"}, 9002),
        ({"PORT": "9001", PREFIX + "PORT": ""}, 9001),
        ({PREFIX + "PORT": "tcp://10.0.0.7:80"}, 8080),
    ],
)
def test_the_port(environ: dict[str, str], port: int) -> None:
    assert Settings.from_environ(URL | environ).port == port


def test_what_kubernetes_puts_there_for_a_service_is_no_setting() -> None:
    links = {
        "SERVICE_HOST": "10.0.0.7",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": "tcp://10.0.0.7:80",
        "PORT_80_TCP": "tcp://10.0.0.7:80",
        "PORT_80_TCP_ADDR": "10.0.0.7",
    }
    assert Settings.from_environ(URL | {PREFIX + name: value for name, value in links.items()}).port == 8080


def test_what_the_command_line_reads_is_no_setting() -> None:
    login = {"URL": "https://gateway.example", "USER": "anna", "PASSWORD": "s3cret"}
    exported = {PREFIX + name: value for name, value in login.items()}
    assert Settings.from_environ(URL | exported) == Settings.from_environ(URL)
    assert exported.keys() <= CLIENT_VARIABLES


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("AIRFLOW_URL", "", "is not set"),
        ("AIRFLOW_URL", "airflow:8080", "http://"),
        ("AIRFLOW_URL", "ftp://airflow", "http://"),
        ("AIRFLOW_URL", "http://airflow:99999", "not allowed"),
        ("AIRFLOW_URL", "http://airflow/?x=1", "query"),
        ("PORT", "x", "whole number"),
        ("PORT", "70000", "65535"),
        ("MAX_CONCURRENCY", "0", "greater than or equal to 1"),
        ("WAIT_TIMEOUT", "inf", "finite"),
        ("WAIT_TIMEOUT", "0", "greater than 0"),
        ("UNPAUSE", "maybe", "true or false"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("MAX_CONCURENCY", "5", "no such setting"),
    ],
)
def test_what_is_not_allowed_is_named(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(URL | {PREFIX + name: value})
    assert isinstance(caught.value, AirflowKnativeError)
    assert PREFIX + name in str(caught.value)
    assert says in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({PREFIX + "PORT": "x", PREFIX + "NOPE": "1"})
    for name in ("PORT", "NOPE", "AIRFLOW_URL"):
        assert PREFIX + name in str(caught.value)


def test_credentials_in_the_url_are_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({PREFIX + "AIRFLOW_URL": "http://admin:hunter2@airflow"})
    assert "hunter2" not in str(caught.value)


def test_the_help_lists_every_setting() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "airflow_knative.gateway", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for variable in Settings.variables():
        assert f"{variable} (" in text
    assert text.count("default ") >= len(Settings.variables()) - 1


def test_wrong_settings_end_the_process_with_their_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow_knative.gateway"],
        capture_output=True,
        text=True,
        check=False,
        env={PREFIX + "PORT": "x"},
    )
    assert done.returncode == 2
    assert PREFIX + "AIRFLOW_URL is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_documentation_lists_every_setting_with_its_default() -> None:
    text = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"`{_shown(field.default)}`"
        assert f"| `{name.upper()}` | {default} | {field.description} |" in text
