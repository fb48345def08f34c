from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.configuration import conf

import airflow_knative
from airflow_knative.provider import get_provider_info

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
OPTIONS: dict[str, dict[str, Any]] = get_provider_info()["config"]["knative"]["options"]


def row(name: str, option: dict[str, Any]) -> str:
    """The option's row of the table in docs/configuration.md."""
    default = f"`{option['default']}`" if option["default"] else "none: must be set"
    return f"| `{name}` | {option['type']} | {default} | {option['description']} | `{option['example']}` |"


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_whole_and_documented(name: str) -> None:
    option = OPTIONS[name]
    assert set(option) == {"type", "default", "description", "example", "version_added"}
    assert option["description"].endswith(".")
    assert option["example"] is not None
    assert row(name, option) in DOCUMENT.read_text().splitlines()


def test_airflow_takes_the_options_in() -> None:
    for name, option in OPTIONS.items():
        assert conf.get("knative", name) == option["default"]


def test_the_provider_names_what_it_brings() -> None:
    info = get_provider_info()
    assert info["versions"] == [airflow_knative.__version__]
    assert info["executors"] == ["airflow_knative.executor.KnativeExecutor"]


def test_the_airflow_command_does_not_warn_of_it() -> None:
    airflow = Path(sys.executable).with_name("airflow")
    done = subprocess.run([airflow, "info", "--help"], capture_output=True, text=True, check=True)
    assert "airflow-knative" not in done.stdout + done.stderr
