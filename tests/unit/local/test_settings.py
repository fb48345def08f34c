from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_knative.local.errors import LocalError
from airflow_knative.local.ports import sequence
from airflow_knative.local.settings import LocalSettings

if TYPE_CHECKING:
    from pathlib import Path


def test_saved_settings_come_back(tmp_path: Path) -> None:
    settings = LocalSettings(workflows=tmp_path, granularity="dag", api_port=22080)
    settings.save(tmp_path / "settings.json")
    assert LocalSettings.load(tmp_path / "settings.json") == settings


def test_damaged_settings_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(LocalError, match=r"settings\.json"):
        LocalSettings.load(tmp_path / "settings.json")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"granularity": "both"}, "--granularity is 'both'; allowed: task, dag"),
        ({"api_port": 70000}, "--api-port is 70000; allowed: 1 to 65535"),
        ({"api_port": 9000, "gateway_port": 9000}, "--gateway-port and --api-port are both 9000"),
        ({"starts_at_once": -1}, "--starts-at-once is -1"),
    ],
)
def test_a_wrong_value_is_named_with_its_option(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(LocalError, match=message):
        LocalSettings(workflows=tmp_path, **wrong)  # type: ignore[arg-type]


def test_only_what_was_asked_for_and_is_different_changes(tmp_path: Path) -> None:
    settings = LocalSettings(workflows=tmp_path, api_port=22080)
    assert settings.differences({"api_port": 22080, "granularity": "dag"}) == {"granularity": ("task", "dag")}
    assert settings.with_changes({"granularity": "dag"}).api_port == 22080


def test_an_address_of_all_interfaces_is_reached_on_loopback(tmp_path: Path) -> None:
    assert LocalSettings(workflows=tmp_path, host="0.0.0.0").api_url == "http://127.0.0.1:8080"


def test_ports_from_a_base_are_consecutive() -> None:
    assert sequence(22500, "127.0.0.1") == {"gateway_port": 22500, "api_port": 22501, "activator_port": 22502}


def test_base_zero_takes_free_ports() -> None:
    ports = sequence(0, "127.0.0.1")
    assert len(set(ports.values())) == 3
    assert all(port > 1023 for port in ports.values())


@pytest.mark.parametrize("base", [-1, 65534])
def test_a_base_without_room_is_refused(base: int) -> None:
    with pytest.raises(LocalError, match="--port-base"):
        sequence(base, "127.0.0.1")
